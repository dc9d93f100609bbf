-- Bans, for all proxies. KEYS: bans by their end, lifted ones by when, the version. ARGV: how many bans are kept, then of
-- each who and from what, and how long in milliseconds. Those that end first make room; a longer one stays.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for at = 2, #ARGV, 2 do
    redis.call('ZREM', KEYS[2], ARGV[at])
    local known = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '0')
    redis.call('ZADD', KEYS[1], math.max(known, now + tonumber(ARGV[at + 1])), ARGV[at])
end
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
end
return redis.call('INCR', KEYS[3])
