-- Ends of bans, for all proxies, remembered for a day so that none brings them back. KEYS as in ban.lua. ARGV: how many
-- are kept, then of each who and from what.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 86400000)
for at = 2, #ARGV do
    redis.call('ZREM', KEYS[1], ARGV[at])
    redis.call('ZADD', KEYS[2], now, ARGV[at])
end
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[1])
if over > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
return redis.call('INCR', KEYS[3])
