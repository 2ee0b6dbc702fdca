-- Stores an override, of a full bucket unless what is spent stays spent; answers whether that changed anything.

local code, limit, interval, burst, min_ttl = cmsgpack.unpack(ARGV[1])
local now, keeps_spent = now_of(tonumber(ARGV[3])), ARGV[4] == "1"
local bucket = bucket_of(KEYS[1], now, min_ttl)
if not bucket then
  bucket = new_bucket(KEYS[1], code, { limit, interval, burst }, now)
  bucket.override = UNASKED
elseif keeps_spent and bucket.override and bucket.terms[1] == limit and bucket.terms[2] == interval then
  return 0
else
  requote(bucket, bucket.code, resized(bucket.terms, limit, interval))
  bucket.override = bucket.override or true
end
if not keeps_spent then
  -- A full bucket goes by the server's clock.
  bucket.state, bucket.now, bucket.ahead = fresh(), now, 0
end
save(bucket, ARGV[2], min_ttl)
return 1
