-- Windows begin at multiples of the interval since 1970, in UTC.
local function end_of_window(_, terms, now)
  return now + terms[2] - fmod(now, terms[2])
end

local fixed_window = windowed(end_of_window, function(ends, old, new, now)
  if now >= ends then
    return ends
  end
  return old[2] == new[2] and min(ends, now + new[2]) or end_of_window(ends, new, now)
end)
