-- Changes the schemas where they are at the expected revision. KEYS: 1 the registry's head, 2 schemas, 3 subjects,
-- 4 the index, 5 settings. ARGV: 1 the revision, 2 the change's own token (16), 3 which change, then what it says:
--   'R' context, subject, version, tag, 'K' id; or the same, then 'N', id or '', fingerprint (16), content, and
--       subject and version of each reference
--   'D' or 'P' subject, versions…
--   'S' field, 'W' content or 'D'
-- Answers 'D' revision (8) id (4, 0 for none); 'C' and the revision that is there (8); 'V', 'I' or 'U' where the
-- version is there, the id is there, or no schema of that id is.
--
-- What is stored. Head: 'revision', 'token' and 'answer' of the last change, 'last:' context. Schemas: context \0
-- id, in 8 hexadecimal digits as all numbers in names, to fingerprint (16) and content. Subjects: name to context
-- \0 and for each version, ascending, its number (4), id (4), 0 or 1 for deleted, tag. The index has members that
-- are found by what they begin with:
--   's' subject                                      names
--   'f' fingerprint \0 context \0 id                 contents
--   'u' context \0 id \0 subject \0 version          what versions a schema is
--   'r' context \0 id \0 subject \0 version          what a schema refers to
--   'b' subject \0 version \0 context \0 id          the same from the other side
local head, schemas, subjects, index, settings = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ENTRY = 10

-- Said again: answered as the first time.
if redis.call('HGET', head, 'token') == ARGV[2] then return redis.call('HGET', head, 'answer') end
local revision = tonumber(redis.call('HGET', head, 'revision') or '0')
if revision ~= tonumber(ARGV[1]) then return 'C' .. struct.pack('>I8', revision) end

local function hex(number) return string.format('%08x', number) end

local function read(subject)
  local found = redis.call('HGET', subjects, subject)
  if not found then return nil, '' end
  local at = string.find(found, '%z')
  return string.sub(found, 1, at - 1), string.sub(found, at + 1)
end

local function write(subject, context, entries)
  if #entries == 0 then
    redis.call('HDEL', subjects, subject)
    redis.call('ZREM', index, 's' .. subject)
  else
    redis.call('HSET', subjects, subject, context .. '\0' .. entries)
    redis.call('ZADD', index, 0, 's' .. subject)
  end
end

local function begins(with, count)
  return redis.call('ZRANGEBYLEX', index, '[' .. with .. '\0', '(' .. with .. '\1', 'LIMIT', 0, count)
end

local function unmake(context, id)
  local schema = context .. '\0' .. hex(id)
  local row = redis.call('HGET', schemas, schema)
  if not row then return end
  redis.call('HDEL', schemas, schema)
  redis.call('ZREM', index, 'f' .. string.sub(row, 1, 16) .. '\0' .. schema)
  for _, member in ipairs(begins('r' .. schema, -1)) do
    redis.call('ZREM', index, member, 'b' .. string.sub(member, #schema + 3) .. '\0' .. schema)
  end
end

local kind, id = ARGV[3], 0
if kind == 'R' then
  local context, subject, version, tag = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
  local _, entries = read(subject)
  local before = 0
  for at = 1, #entries, ENTRY do
    local there = struct.unpack('>I4', entries, at)
    if there == version then return 'V' end
    if there < version then before = at + ENTRY - 1 end
  end
  id = tonumber(ARGV[9])
  local last = tonumber(redis.call('HGET', head, 'last:' .. context) or '0')
  if ARGV[8] == 'N' then id = id or last + 1 end
  local schema = context .. '\0' .. hex(id)
  local there = redis.call('HEXISTS', schemas, schema) == 1
  if ARGV[8] == 'N' then
    if there then return 'I' end
    redis.call('HSET', head, 'last:' .. context, math.max(last, id))
    redis.call('HSET', schemas, schema, ARGV[10] .. ARGV[11])
    redis.call('ZADD', index, 0, 'f' .. ARGV[10] .. '\0' .. schema)
    for at = 12, #ARGV, 2 do
      local to = ARGV[at] .. '\0' .. hex(tonumber(ARGV[at + 1]))
      redis.call('ZADD', index, 0, 'r' .. schema .. '\0' .. to, 0, 'b' .. to .. '\0' .. schema)
    end
  elseif not there then
    return 'U'
  end
  local entry = struct.pack('>I4I4BB', version, id, 0, tag)
  write(subject, context, string.sub(entries, 1, before) .. entry .. string.sub(entries, before + 1))
  redis.call('ZADD', index, 0, 'u' .. schema .. '\0' .. subject .. '\0' .. hex(version))
elseif kind == 'S' then
  if ARGV[5] == 'W' then
    redis.call('HSET', settings, ARGV[4], ARGV[6])
  else
    redis.call('HDEL', settings, ARGV[4])
  end
else
  local subject, gone, kept = ARGV[4], {}, {}
  local context, entries = read(subject)
  for at = 5, #ARGV do gone[tonumber(ARGV[at])] = true end
  local unused = {}
  for at = 1, #entries, ENTRY do
    local version, of, deleted, tag = struct.unpack('>I4I4BB', entries, at)
    if not gone[version] then
      kept[#kept + 1] = string.sub(entries, at, at + ENTRY - 1)
    elseif kind == 'D' then
      kept[#kept + 1] = struct.pack('>I4I4BB', version, of, 1, tag)
    else
      redis.call('ZREM', index, 'u' .. context .. '\0' .. hex(of) .. '\0' .. subject .. '\0' .. hex(version))
      unused[#unused + 1] = of
    end
  end
  if context then write(subject, context, table.concat(kept)) end
  for _, of in ipairs(unused) do
    if #begins('u' .. context .. '\0' .. hex(of), 1) == 0 then unmake(context, of) end
  end
end

local answer = 'D' .. struct.pack('>I8I4', redis.call('HINCRBY', head, 'revision', 1), id)
redis.call('HSET', head, 'token', ARGV[2], 'answer', answer)
return answer
