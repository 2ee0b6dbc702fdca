-- Says that reservations are still in flight; those that have ended stay so.

local members, in_flight_ttl = cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
local ends_at, last = now_of(0) + in_flight_ttl, math.ceil(in_flight_ttl / 1000)
for _, member in ipairs(members) do
  redis.call("ZADD", KEYS[1], "XX", ends_at, member)
end
redis.call("PEXPIRE", KEYS[1], last)
redis.call("PEXPIRE", KEYS[2], last)
return 1
