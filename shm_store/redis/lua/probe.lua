-- Runs each command of the scripts on names that no other script uses, and removes the names again.
--
-- Answers a line for each command that the server refused: the command, and the server's words.

local refused = {}

local function try(command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) == "table" and reply.err then
    refused[#refused + 1] = command .. " " .. string.gsub(reply.err, "%s", " ")
  end
end

local bucket, set, units, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
try("TIME")
for _, name in ipairs({ bucket, units }) do
  try("SET", name, "", "PX", 1000)
  try("GET", name)
end
try("ZADD", set, 1, "1")
try("ZRANGEBYSCORE", set, "-inf", "+inf")
try("ZCARD", set)
try("PEXPIRE", set, 1000)
try("ZREM", set, "1")
try("ZREMRANGEBYSCORE", set, "-inf", "+inf")
try("HSET", leases, "1", "1")
try("HGET", leases, "1")
try("HLEN", leases)
try("HDEL", leases, "1")
for _, name in ipairs(KEYS) do
  try("DEL", name)
end
return table.concat(refused, "\n")
