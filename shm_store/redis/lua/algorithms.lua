-- By the codes that slots of a table store, too.
local ALGORITHMS = { [0] = token_bucket, gcra, fixed_window, sliding_window }

-- The state under another algorithm or other terms: units that are spent now stay spent.
local function requoted(state, old_code, old, new_code, new, now)
  if old_code == new_code then
    return ALGORITHMS[new_code].requote(state, old, new, now)
  end
  return ALGORITHMS[new_code].opened(ALGORITHMS[old_code].spent(state, old, now), new, now)
end
