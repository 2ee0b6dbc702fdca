-- Division of products that no double holds.

local LIMB = 2 ^ 26

-- (a * b + e) / c, rounded down, and what is left: exactly, for a, e and a quotient below 2^53, and b and c below 2^52.
local function divided(a, b, c, e)
  local sum = a * b + e
  if sum < EXACT then
    local rest = fmod(sum, c)
    return (sum - rest) / c, rest
  end
  -- In limbs of 26 bits: a product of two of them is exact.
  local a0, b0, e0 = fmod(a, LIMB), fmod(b, LIMB), fmod(e, LIMB)
  local a1, b1, e1 = (a - a0) / LIMB, (b - b0) / LIMB, (e - e0) / LIMB
  local low, left, right, high = a0 * b0 + e0, a0 * b1, a1 * b0, a1 * b1
  local l0, left0, right0, high0 = fmod(low, LIMB), fmod(left, LIMB), fmod(right, LIMB), fmod(high, LIMB)
  local middle = left0 + right0 + e1 + (low - l0) / LIMB
  local l1 = fmod(middle, LIMB)
  local upper = high0 + (middle - l1) / LIMB + (left - left0) / LIMB + (right - right0) / LIMB
  local l2 = fmod(upper, LIMB)
  local l3 = (high - high0) / LIMB + (upper - l2) / LIMB
  -- Long division, a bit at a time; twice the rest is compared with c without being made.
  local quotient, rest = 0, 0
  for _, limb in ipairs({ l3, l2, l1, l0 }) do
    local weight = LIMB / 2
    for _ = 1, 26 do
      local bit = 0
      if limb >= weight then
        bit, limb = 1, limb - weight
      end
      weight = weight / 2
      quotient = quotient + quotient
      if rest >= c - rest then
        rest, quotient = rest - (c - rest), quotient + 1
      else
        rest = rest + rest
      end
      rest = rest + bit
      if rest >= c then
        rest, quotient = rest - c, quotient + 1
      end
    end
  end
  return quotient, rest
end

local function divided_up(a, b, c)
  local quotient, rest = divided(a, b, c, 0)
  return rest > 0 and quotient + 1 or quotient
end
