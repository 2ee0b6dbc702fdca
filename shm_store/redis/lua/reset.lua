local now, min_ttl = now_of(tonumber(ARGV[1])), tonumber(ARGV[2])
local existed = bucket_of(KEYS[1], now, min_ttl) ~= nil or flight_of(KEYS, 2, tonumber(ARGV[3])).units > 0
redis.call("DEL", unpack(KEYS))
return existed and 1 or 0
