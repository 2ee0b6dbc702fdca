-- Issues units of a bucket to a host, which spends them in later takes, and takes back the units that it did not spend.
--
-- KEYS[1] is the bucket. KEYS[2] is a hash of each host's latest lease: { number, tag of the bucket, its state }.

local code, limit, interval, burst, min_ttl = cmsgpack.unpack(ARGV[1])
local settings = cmsgpack.unpack(ARGV[2])
local tag, now, host, number, cost = settings[1], now_of(settings[2]), settings[3], settings[4], settings[5]
local returned, unspent, hosts, share, most = settings[6], settings[7], settings[8], settings[9], settings[10]

local bucket = bucket_of(KEYS[1], now, min_ttl) or new_bucket(KEYS[1], code, { limit, interval, burst }, now)
if cost > 0 then
  -- An order without a cost only returns units. Its quota may be outdated, and must not change the bucket's.
  adopt(bucket, code, { limit, interval, burst })
end
local algorithm, terms, own = ALGORITHMS[bucket.code], bucket.terms, bucket.now

if unspent > 0 then
  local text = redis.call("HGET", KEYS[2], host)
  if text then
    local last, its_tag, first, idle_at, third, fourth = cmsgpack.unpack(text)
    if last == returned then
      -- Delete the lease, so that the same units cannot come back twice.
      redis.call("HDEL", KEYS[2], host)
      if its_tag == bucket.tag then
        bucket.state = algorithm.refund(bucket.state, terms, { first, idle_at, third, fourth }, own, unspent)
      end
    end
  end
end

local answer, issued = answer_of(true, terms, 0, 0, 0), 0
if cost > terms[3] then
  answer = { "cost", 1, terms[3] }
elseif cost > 0 then
  local left = terms[3] - min(algorithm.spent(bucket.state, terms, own), terms[3])
  local units = max(cost, min(most, math.floor(left * share / hosts)))
  local allowed, remaining, reset_after, retry_after, after = decide(bucket, units)
  bucket.state = after
  answer, issued = answer_of(allowed, terms, remaining, reset_after, retry_after), allowed and units or 0
end
if bucket.is_requoted or bucket.state ~= bucket.base then
  save(bucket, tag, min_ttl)
end
if issued > 0 then
  local state = bucket.state
  if redis.call("HLEN", KEYS[2]) > 2 * hosts + 64 then
    -- Most leases belong to hosts that are gone. Live hosts lose the right to return units of their current lease.
    redis.call("DEL", KEYS[2])
  end
  redis.call("HSET", KEYS[2], host, cmsgpack.pack(number, bucket.tag, unpack(state)))
  redis.call("PEXPIRE", KEYS[2], lasts_ms(bucket, min_ttl))
end
if answer[1] ~= "cost" then
  for _, value in ipairs({ issued, bucket.code, terms[2] }) do
    answer[#answer + 1] = value
  end
end
return cmsgpack.pack(answer)
