-- Changes a document where what is there is what is expected. KEYS: 1 the hash of its kind, 2 what remembers
-- a deletion. ARGV: 1 the document's field, 2 what is expected ('A' nothing, or 'V' version (8)), 3 the change's
-- own token (16), 4 what it becomes ('W' value, or 'D' nothing), 5 how long a deletion is remembered, in ms.
-- Answers 'D' version (8), or 'D' alone for a deletion; or 'C' and the version that is there, if any.
--
-- What is stored: at a document's field its version (8), the token of what wrote it (16), its value; at 'last'
-- the last version that was given to any document of the kind. It lies in the same key, so that it is never
-- forgotten without the documents.
local was = redis.call('HGET', KEYS[1], ARGV[1])
local version = was and string.sub(was, 1, 8) or ''
-- Said again: answered as the first time.
if was and string.sub(was, 9, 24) == ARGV[3] then return 'D' .. version end
local deletes = string.sub(ARGV[4], 1, 1) == 'D'
if deletes and redis.call('EXISTS', KEYS[2]) == 1 then return 'D' end
if (was and 'V' .. version or 'A') ~= ARGV[2] then return 'C' .. version end
if deletes then
  redis.call('SET', KEYS[2], '', 'PX', ARGV[5])
  redis.call('HDEL', KEYS[1], ARGV[1])
  return 'D'
end
version = struct.pack('>I8', redis.call('HINCRBY', KEYS[1], 'last', 1))
redis.call('HSET', KEYS[1], ARGV[1], version .. ARGV[3] .. string.sub(ARGV[4], 2))
return 'D' .. version
