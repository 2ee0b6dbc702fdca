-- Buckets: what is stored of one, under one name, until it has been idle for `min_ttl`; of an override, for ever.
--
-- A bucket is { name, code, terms, base, state, tag, override, now, ahead, lag }: its state before and after what was
-- taken so far. Its tag is another one whenever reservations of before may give nothing back to it. An override that was
-- set before the first take is UNASKED: it adopts the algorithm and the burst of that.
--
-- A bucket has its own time, `now`, which never goes back: the server's clock and `ahead` microseconds. All its instants
-- are of that time. A clock that steps back makes `ahead` larger, and the bucket's time goes on from the last change. A
-- step of a hundredth of the interval or less stops the bucket's time until the clock has caught up, in `lag` microseconds:
-- clocks that differ that little, and take turns, then gain no units.

local JITTER = 1 / 100
local UNASKED = "unasked"

-- Milliseconds of the server's clock until the bucket has been idle for `min_ttl`.
local function lasts_ms(bucket, min_ttl)
  return max(math.ceil((bucket.state[2] + min_ttl - bucket.now + bucket.lag) / 1000), 1)
end

local function save(bucket, tag, min_ttl)
  local state, terms = bucket.state, bucket.terms
  bucket.tag = bucket.tag or tag
  local text = cmsgpack.pack(
    state[1], state[2], state[3], state[4], bucket.code, terms[1], terms[2], terms[3], bucket.tag, bucket.override,
    bucket.now, bucket.ahead
  )
  if bucket.override then
    redis.call("SET", bucket.name, text)
  else
    redis.call("SET", bucket.name, text, "PX", lasts_ms(bucket, min_ttl))
  end
end

local function bucket_of(name, now, min_ttl)
  local text = redis.call("GET", name)
  if not text then
    return nil
  end
  local first, idle_at, third, fourth, code, limit, interval, burst, tag, override, at, ahead = cmsgpack.unpack(text)
  local own = max(now + ahead, at)
  local lag = own - now - ahead
  local has_stepped = lag > interval * JITTER
  if has_stepped then
    ahead, lag = at - now, 0
  end
  local state = { first, idle_at, third, fourth }
  if idle_at + min_ttl <= own then
    if not override then
      return nil
    end
    state, tag, own, ahead, lag = fresh(), nil, now, 0, 0
  elseif ahead ~= 0 and idle_at <= own then
    -- No units are spent: the bucket goes by the server's clock again. A new tag, as ends of then may be ends of now.
    local rested = ALGORITHMS[code].rested
    state, tag, own, ahead = rested and rested(max(idle_at - ahead, 0)) or fresh(), nil, now, 0
  end
  local bucket = { name = name, code = code, terms = { limit, interval, burst }, tag = tag, override = override }
  bucket.base, bucket.state, bucket.now, bucket.ahead, bucket.lag = state, state, own, ahead, lag
  if has_stepped then
    -- At once, as neither a denial nor a peek stores anything: else the next one would find the same step.
    save(bucket, tag, min_ttl)
  end
  return bucket
end

local function new_bucket(name, code, terms, now)
  local state = fresh()
  local bucket = { name = name, code = code, terms = terms, override = false }
  bucket.base, bucket.state, bucket.now, bucket.ahead, bucket.lag = state, state, now, 0, 0
  return bucket
end

-- Returns as an algorithm does: whether the take is allowed, what remains, two waits by the server's clock, and the state. With
-- a patience it may come due so much later.
local function decide(bucket, cost, patience)
  local algorithm = ALGORITHMS[bucket.code]
  local books = patience and algorithm.book or algorithm.decide
  local allowed, remaining, reset_after, retry_after, after =
    books(bucket.state, bucket.terms, bucket.now, cost, patience and patience - bucket.lag)
  return allowed, remaining, reset_after + bucket.lag, retry_after > 0 and retry_after + bucket.lag or 0, after
end

-- The terms of another limit and interval: a burst that equals its limit follows, another one is cut to the largest.
local function resized(terms, limit, interval)
  local burst = terms[3]
  if burst == terms[1] then
    burst = limit
  elseif burst * interval / limit > LONGEST then
    burst = divided(LONGEST, limit, interval, 0)
  end
  return { limit, interval, burst }
end

local function requote(bucket, code, terms)
  bucket.base = requoted(bucket.base, bucket.code, bucket.terms, code, terms, bucket.now)
  bucket.state, bucket.code, bucket.terms, bucket.tag, bucket.is_requoted = bucket.base, code, terms, nil, true
end

-- Goes on under another quota, before anything is taken; an override adopts what it lacks from its first one.
local function adopt(bucket, code, terms)
  local old = bucket.terms
  if bucket.override == UNASKED then
    bucket.override = true
    requote(bucket, code, resized(terms, old[1], old[2]))
  elseif not bucket.override
    and (bucket.code ~= code or old[1] ~= terms[1] or old[2] ~= terms[2] or old[3] ~= terms[3]) then
    requote(bucket, code, terms)
  end
end

local function left_of(bucket)
  return max(bucket.terms[3] - ALGORITHMS[bucket.code].spent(bucket.base, bucket.terms, bucket.now), 0)
end

local function full_at(bucket)
  local of = ALGORITHMS[bucket.code].full_at
  return of and of(bucket.base, bucket.terms) or bucket.base[2]
end
