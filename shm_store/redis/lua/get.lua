local now, min_ttl = now_of(tonumber(ARGV[1])), tonumber(ARGV[2])
local bucket = bucket_of(KEYS[1], now, min_ttl)
if bucket then
  return cmsgpack.pack({ bucket.terms[3], left_of(bucket) })
end
local flight = flight_of(KEYS, 2, tonumber(ARGV[3]))
if flight.units == 0 then
  return cmsgpack.pack({ 0, 0 })
end
return cmsgpack.pack({ flight.limit, max(flight.limit - flight.units, 0) })
