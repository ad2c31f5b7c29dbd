-- Claims keys of one slot. KEYS: the keys. ARGV: for each, packed: its token (8), lease (6) and keep (6)
-- in ms, ground (1: 0 none, 1 own, 2 own and counted, 3 taken over, 4 taken over and counted), the own
-- token (8), the note. Answers for each: 'A' attempt (4) note, or 'F' ms until it ends (6), or 'D' outcome.
--
-- What is stored: 'D' token (8) outcome; or, while there is no outcome, 'L' where the lease lasts or lapsed,
-- 'R' where it was released, 'C' where it was released and counts; then its token (8), its end (6), keep (6),
-- the attempts before it that counted (4), the length (2) of the note before and that note, its own note.
local HEAD = '>c1c8I6I6I4I2'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for i = 1, #KEYS do
  local token, lease, keep, ground, own = struct.unpack('>c8I6I6Bc8', ARGV[i])
  local note = string.sub(ARGV[i], 30)
  local was = redis.call('GET', KEYS[i])
  local counted, before, answer = 0, '', nil
  if was and string.sub(was, 1, 1) == 'D' then
    answer = 'D' .. string.sub(was, 10)
  elseif was then
    local state, holder, ends, _, attempts, length = struct.unpack(HEAD, was)
    counted = attempts
    if holder == token then
      -- Asked again: answered as the first time.
      before = string.sub(was, 28, 27 + length)
    else
      before = string.sub(was, 28 + length)
      if state == 'C' then
        counted = attempts + 1
      elseif state == 'L' then
        if ground > 2 or (ground > 0 and holder == own) then
          if ground % 2 == 0 then counted = attempts + 1 end
        elseif ends <= now then
          counted = attempts + 1
        else
          answer = 'F' .. struct.pack('>I6', ends - now)
        end
      end
    end
  end
  if not answer then
    local value = struct.pack(HEAD, 'L', token, now + lease, keep, counted, #before) .. before .. note
    redis.call('SET', KEYS[i], value, 'PX', math.max(lease + keep, 1))
    answer = 'A' .. struct.pack('>I4', counted + 1) .. before
  end
  answers[i] = answer
end
return answers
