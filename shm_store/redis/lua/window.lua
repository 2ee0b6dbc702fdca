-- What token-bucket and fixed-window have in common. `following` returns the end of the window that contains an instant, at or
-- after another end; `moved` the end of a window that began under another interval.
local function windowed(following, moved)
  local algorithm = {}

  local function charged(units, ends, booked, terms)
    local later = units > 0 and quotient(units - 1, terms[1]) or 0
    return { units, ends + later * terms[2], ends, booked }
  end

  local function current(state, terms, now)
    if now < state[3] then
      return state
    end
    local ends = following(state[3], terms, now)
    if now >= state[2] then
      return { 0, ends, ends, 0 }
    end
    local passed = max(quotient(ends - state[3], terms[2]), 1) * terms[1]
    return charged(max(state[1] - passed, 0), ends, max(state[4] - passed, 0), terms)
  end

  local function most(terms)
    return min((quotient(LONGEST, terms[2]) + 1) * terms[1], EXACT - 1)
  end

  function algorithm.decide(state, terms, now, cost)
    local window = current(state, terms, now)
    local units, ends, wait = window[1], window[3], window[3] - now
    if units + cost <= terms[1] then
      return true, terms[1] - units - cost, wait, 0, { units + cost, ends, ends, window[4] }
    end
    if window[2] > ends then
      local before = fmod(units - 1, terms[1])
      local last = (units - 1 - before) / terms[1] - (before + 1 + cost <= terms[1] and 1 or 0)
      return false, 0, window[2] - now, wait + last * terms[2], state
    end
    return false, max(terms[1] - units, 0), wait, wait, state
  end

  function algorithm.book(state, terms, now, cost, patience)
    local allowed, remaining, reset_after, wait, after = algorithm.decide(state, terms, now, cost)
    if wait > 0 and wait <= patience then
      local window = current(state, terms, now)
      local begin = (quotient(now + wait - window[3], terms[2]) + 1) * terms[1]
      local units = max(window[2] > window[3] and window[1] or 0, begin) + cost
      if units <= most(terms) then
        after = charged(units, window[3], units, terms)
        return true, begin + terms[1] - units, after[2] - now, wait, after
      end
    end
    return allowed, remaining, reset_after, wait, after
  end

  function algorithm.charge(state, terms, now, units)
    local window = current(state, terms, now)
    local before = window[1]
    if window[2] <= window[3] then
      before = min(before, terms[1])
    end
    return charged(max(min(before + units, most(terms)), before), window[3], window[4], terms)
  end

  function algorithm.spent(state, terms, now)
    return now < state[2] and current(state, terms, now)[1] or 0
  end

  function algorithm.owed(state, terms, now)
    local window = current(state, terms, now)
    return window[2] > window[3] and window[1] - terms[1] or 0
  end

  function algorithm.opened(units, terms, now)
    if units == 0 then
      return fresh()
    end
    local ends = following(0, terms, now)
    return { units, ends, ends, 0 }
  end

  function algorithm.rested(at)
    return { 0, at, at, 0 }
  end

  function algorithm.requote(state, old, new, now)
    if state[2] > state[3] then
      state = current(state, old, now)
    end
    local units, booked, ends = state[1], state[4], moved(state[3], old, new, now)
    if state[2] <= state[3] then
      return { units, ends, ends, booked }
    end
    if now >= ends then
      ends = following(ends, new, now)
    end
    local shift = min(new[1] - old[1], 0)
    units = min(units + shift, most(new))
    return charged(units, ends, booked > old[1] and booked + shift or min(booked, units), new)
  end

  function algorithm.refund(state, terms, taken, now, units)
    if now >= state[2] then
      return state
    end
    local window = current(state, terms, now)
    local before, idle_at, ends, booked = unpack(window)
    local ahead = taken[2] - ends
    local begin = quotient(ahead, terms[2]) * terms[1]
    if ahead < 0 or ahead > idle_at - ends or fmod(ahead, terms[2]) ~= 0 or booked > begin + terms[1] then
      return state
    end
    local after = max(before - units, begin)
    if idle_at <= ends then
      return { after, ends, ends, booked }
    end
    return charged(after, ends, booked > begin and max(booked - units, begin) or booked, terms)
  end

  return algorithm
end
