-- One call of any number of takes: all of them take, or none does.
--
-- A take is { name, is_flight, code, limit, interval, burst, cost, is_shadow }; its name is the position of the first of
-- its names. Answers { "cost", position, capacity } if a cost is none that its bucket can have, and nothing is stored.

local function decide_flight(flight, limit, cost)
  flight.limit = limit
  local terms, left = { limit, 0, limit }, limit - flight.units - cost
  if left < 0 then
    return answer_of(false, terms, max(left + cost, 0), 0, 0)
  end
  flight.units = flight.units + cost
  return answer_of(true, terms, left, 0, 0)
end

local function decide_bucket(bucket, cost, patience)
  local allowed, remaining, reset_after, retry_after, after = decide(bucket, cost, patience)
  bucket.state = after
  return answer_of(allowed, bucket.terms, remaining, reset_after, retry_after)
end

-- In a call of several that was denied: what its bucket has, if nothing is taken.
local function undisturbed(account, is_flight)
  if is_flight then
    return answer_of(true, { account.limit, 0, account.limit }, max(account.limit - account.base, 0), 0, 0)
  end
  local reset_after = full_at(account) - account.now
  return answer_of(true, account.terms, left_of(account), reset_after > 0 and reset_after + account.lag or 0, 0)
end

local function account_of(accounts, take, call)
  local name, is_flight, code, limit, interval, burst = unpack(take, 1, 6)
  local account = accounts[name]
  if not account then
    if is_flight then
      account = flight_of(KEYS, name, call.in_flight_ttl)
    else
      local terms = { limit, interval, burst }
      account = bucket_of(KEYS[name], call.now, call.min_ttl) or new_bucket(KEYS[name], code, terms, call.now)
      adopt(account, code, terms)
    end
    accounts[name] = account
  end
  return account
end

local function save_all(takes, accounts, answers, violated, call)
  for position, take in ipairs(takes) do
    local account, is_flight = accounts[take[1]], take[2]
    if is_flight and answers[position][1] and not violated then
      -- Of a large number Lua would write no more than 14 digits.
      local member = string.format("%s-%d:%.0f", call.tag, position, take[7])
      if redis.call("ZADD", account.set, account.now + call.in_flight_ttl, member) == 0 then
        -- The same call once more, whose first reply was lost: its units are counted already.
        account.units = account.units - take[7]
      end
    end
  end
  for name, account in pairs(accounts) do
    if account.set then
      account.units = violated and account.base or account.units
      if account.units > 0 or #account.ended > 0 then
        save_flight(account, call.in_flight_ttl)
      end
    else
      account.state = violated and account.base or account.state
      if account.is_requoted or account.state ~= account.base then
        save(account, call.tag, call.min_ttl)
      end
    end
  end
end

local function take_all(takes, call)
  local accounts, answers, states, violated, order = {}, {}, {}, false, {}
  -- The enforced ones first: one in shadow mode decides on what they leave.
  for _, shadow in ipairs({ false, true }) do
    for position, take in ipairs(takes) do
      if take[8] == shadow then
        order[#order + 1] = position
      end
    end
  end
  for _, position in ipairs(order) do
    local take = takes[position]
    local account, is_flight, cost = account_of(accounts, take, call), take[2], take[7]
    local capacity = is_flight and take[4] or account.terms[3]
    if cost < 1 or cost > capacity then
      return { "cost", position, capacity }
    end
    answers[position] = is_flight and decide_flight(account, capacity, cost) or decide_bucket(account, cost, call.patience)
    states[position] = account.state
    violated = violated or not answers[position][1] and not take[8]
  end
  if not call.is_peek then
    save_all(takes, accounts, answers, violated, call)
  end
  for position, take in ipairs(takes) do
    local account, answer = accounts[take[1]], answers[position]
    local is_taken = answer[1] and not violated
    if answer[1] and violated then
      answers[position] = undisturbed(account, take[2])
    end
    if call.is_reserved then
      local state = states[position] or fresh()
      answers[position] = { answers[position], is_taken, account.tag or "", unpack(state) }
    end
  end
  return answers
end
