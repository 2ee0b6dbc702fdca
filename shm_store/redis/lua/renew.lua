-- Says that reservations are still in flight; those that have ended stay so.

local members, lease = cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
local ends_at, last = now_of(0) + lease, math.ceil(lease / 1000)
for _, member in ipairs(members) do
  redis.call("ZADD", KEYS[1], "XX", ends_at, member)
end
redis.call("PEXPIRE", KEYS[1], last)
redis.call("PEXPIRE", KEYS[2], last)
return 1
