-- The end of a ban, for all proxies, remembered for a day so that none brings it back. KEYS as in ban.lua. ARGV: who and
-- from what, how many are kept.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 86400000)
redis.call('ZADD', KEYS[2], now, ARGV[1])
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[2])
if over > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
return redis.call('INCR', KEYS[3])
