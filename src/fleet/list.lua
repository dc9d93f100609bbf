-- What has changed since a version. KEYS as in ban.lua. ARGV: the version. Answers the version, then bans with the
-- milliseconds they have left, then lifted ones with the milliseconds since; nothing but the version if it is the same.
local version = redis.call('GET', KEYS[3]) or '0'
if version == ARGV[1] then
    return {version, {}, {}}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bans = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES')
for at = 2, #bans, 2 do
    bans[at] = string.format('%.0f', bans[at] - now)
end
local lifted = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for at = 2, #lifted, 2 do
    lifted[at] = string.format('%.0f', now - lifted[at])
end
return {version, bans, lifted}
