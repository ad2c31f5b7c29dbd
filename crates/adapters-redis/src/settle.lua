-- Settles leases of one slot. KEYS: the keys. ARGV: for each, packed: what is to become of it (1: 'D' done,
-- 'L' extended, 'R' released, 'C' released and counted), its token (8), keep or lease (6) in ms, the outcome.
-- Answers one letter a key: 'A' applied, 'F' fenced. What is stored is told in the script of claims.
local HEAD = '>c1c8I6I6I4I2'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for i = 1, #KEYS do
  local kind, token, span = struct.unpack('>c1c8I6', ARGV[i])
  local was = redis.call('GET', KEYS[i])
  local holds = false
  if not was then
    holds = kind == 'D'
  elseif string.sub(was, 2, 9) == token then
    holds = kind == 'D' or string.sub(was, 1, 1) ~= 'D'
  end
  if holds and kind == 'D' then
    -- Done once more with the same token changes nothing.
    if not was or string.sub(was, 1, 1) ~= 'D' then
      redis.call('SET', KEYS[i], 'D' .. token .. string.sub(ARGV[i], 16), 'PX', math.max(span, 1))
    end
  elseif holds then
    local _, _, ends, keep, attempts, length = struct.unpack(HEAD, was)
    if kind == 'R' and attempts == 0 then
      -- A first attempt that does not count was none.
      redis.call('DEL', KEYS[i])
    else
      local ttl = keep
      if kind == 'L' then
        ends = now + span
        ttl = span + keep
      end
      local value = struct.pack(HEAD, kind, token, ends, keep, attempts, length) .. string.sub(was, 28)
      redis.call('SET', KEYS[i], value, 'PX', math.max(ttl, 1))
    end
  end
  answers[i] = holds and 'A' or 'F'
end
return table.concat(answers)
