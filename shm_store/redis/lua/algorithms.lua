-- The state under another algorithm or other terms: units that are spent now stay spent.
local function requoted(state, old_code, old, new_code, new, now)
  if old_code == new_code then
    return ALGORITHMS[new_code].requote(state, old, new, now)
  end
  local algorithm, before = ALGORITHMS[new_code], ALGORITHMS[old_code]
  local owed = before.owed(state, old, now)
  local after = algorithm.opened(min(before.spent(state, old, now) - owed, EXACT / 2 - 1), new, now)
  return owed > 0 and algorithm.charge(after, new, now, owed) or after
end
