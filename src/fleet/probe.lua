-- Whether this server takes writes of scripts, whatever else it answers: one without room, a replica and a user without
-- the right do not. KEYS[1]: a key that nobody else uses.
redis.call('SET', KEYS[1], '1', 'PX', 1)
return redis.call('DEL', KEYS[1])
