-- Refunds the units that a take did not use, or charges those that it used beyond its cost, up to the remaining units.
--
-- A part is { name, is_flight, units, tag, first, idle_at, third }. `name` is a position in KEYS. Positive units are
-- refunded, negative ones charged. `first`, `idle_at` and `third` are the state after the take. For units in flight,
-- `tag` is the reservation's member in the sorted set.

local settings = cmsgpack.unpack(ARGV[2])
local tag, now, min_ttl, in_flight_ttl = settings[1], now_of(settings[2]), settings[3], settings[4]

local function refund(bucket, part)
  if bucket.tag == part[4] then
    local taken = { part[5], part[6], part[7] }
    bucket.state = ALGORITHMS[bucket.code].refund(bucket.state, bucket.terms, taken, bucket.now, part[3])
  end
end

local function charge(bucket, units)
  local cost = min(units, left_of(bucket))
  if cost > 0 then
    bucket.state = select(5, decide(bucket, cost))
  end
end

for _, part in ipairs(cmsgpack.unpack(ARGV[1])) do
  if part[2] then
    local flight = flight_of(KEYS, part[1], in_flight_ttl)
    if redis.call("ZREM", flight.set, part[4]) == 1 then
      local is_over = false
      for _, member in ipairs(flight.ended) do
        is_over = is_over or member == part[4]
      end
      flight.units = is_over and flight.units or max(flight.units - part[3], 0)
      save_flight(flight, in_flight_ttl)
    end
  else
    local bucket = bucket_of(KEYS[part[1]], now, min_ttl)
    if bucket then
      if part[3] > 0 then
        refund(bucket, part)
      else
        charge(bucket, 0 - part[3])
      end
      if bucket.state ~= bucket.base then
        save(bucket, tag, min_ttl)
      end
    end
  end
end
return 1
