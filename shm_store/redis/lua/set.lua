-- Stores an override with a full bucket; a key that has a bucket keeps its algorithm.

local code, limit, interval, burst, min_ttl = cmsgpack.unpack(ARGV[1])
local now = now_of(tonumber(ARGV[3]))
local bucket = bucket_of(KEYS[1], now, min_ttl)
local override = new_bucket(KEYS[1], bucket and bucket.code or code, { limit, interval, burst }, now)
override.override = true
save(override, ARGV[2], min_ttl)
return 1
