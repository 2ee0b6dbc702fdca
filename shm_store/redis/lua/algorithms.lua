-- The state under another algorithm or other terms: units that are spent now stay spent.
local function requoted(state, old_code, old, new_code, new, now)
  if old_code == new_code then
    return ALGORITHMS[new_code].requote(state, old, new, now)
  end
  return ALGORITHMS[new_code].opened(ALGORITHMS[old_code].spent(state, old, now), new, now)
end
