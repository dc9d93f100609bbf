-- GCRA for a fleet. KEYS[1]: a key's reach into the future, as Unix time in microseconds by this server's clock.
-- ARGV: microseconds of one request; requests at once; how many more (or fewer); what the proxy knows already, in
-- microseconds from now; 1 to ask first, 0 to count what has passed. Answers whether it may pass, and the reach from now.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local reach = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local after = math.max(reach + count * each, now + tonumber(ARGV[4]))
if ARGV[5] == '1' and after - now > burst * each then
    return {0, math.floor(reach - now)}
end
local left = after - now
if left < 1 then
    redis.call('DEL', KEYS[1])
    return {1, 0}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil(left / 1000))
return {1, math.floor(left)}
