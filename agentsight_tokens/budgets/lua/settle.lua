
-- Counts what was used, and says what is counted in each window. KEYS[2] remembers for a while that
-- this was settled or added, and the keys after it hold windows. ARGV[4] is the operation: settle,
-- add, renew, read or restore; ARGV[5] is what was seen used, for restore. Answers with doubles: 0,
-- or 1 where there was nothing to do, the time, and of each window tokens, micro-USD and pico-USD of
-- what is used, and of the sum with what is held.

local operation = ARGV[4]
local answer = { 0, now }

local function lines_of(value)
  local lines = {}
  for line in string.gmatch(value, '[^\n]+') do lines[#lines + 1] = line end
  return lines
end

-- A server that evicts a key forgets holds whose leases it keeps: used and held is never less than
-- what is used.
local function bound(entries, at)
  if entries[at + 2] < entries[at + 5] then entries[at + 2] = entries[at + 5] end
  local micro_held = entries[at + 3] - entries[at + 6]
  if micro_held < 0 or (micro_held == 0 and entries[at + 4] < entries[at + 7]) then
    entries[at + 3], entries[at + 4] = entries[at + 6], entries[at + 7]
  end
end

-- Calls back with the key, slot and start of each window that a lease holds, and with its amounts.
local function each_held(value, visit)
  local lines = lines_of(value)
  local key
  for i = 5, #lines, 3 do
    if lines[i] ~= '=' then key = lines[i] end
    visit(key, tonumber(lines[i + 1]), tonumber(lines[i + 2]), lines[2], lines[3], lines[4])
  end
end

local function give_back(key, slot, start, held, held_micro, held_pico)
  local entries = entries_of(redis.call('GET', key))
  for at = 1, #entries, SIZE do
    if entries[at] == slot and entries[at + 1] == start then
      add(entries, at, 2, -held, -held_micro, -held_pico)
      bound(entries, at)
      write(key, entries)
    end
  end
end

local function end_leases()
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)) do
    each_held(ended, give_back)
    redis.call('ZREM', KEYS[1], ended)
  end
end

-- Returns the place of a window's own entry; nil if it has ended and is forgotten.
local function own_entry(entries, p)
  local slot, start, is_past = plan[p], plan[p + 1], false
  for at = 1, #entries, SIZE do
    if entries[at] == slot then
      if entries[at + 1] == start then return at end
      is_past = is_past or entries[at + 1] > start
    end
  end
  if not is_past then return new_entry(entries, slot, start, plan[p + 2]) end
end

-- Returns the six sums of a window, over all entries that count in it.
local function sums_of(entries, p)
  local slot, first = plan[p], plan[p + 2]
  local used, used_micro, used_pico, all, all_micro, all_pico = 0, 0, 0, 0, 0, 0
  for at = 1, #entries, SIZE do
    if entries[at] == slot and entries[at + 1] >= first then
      all, used = all + entries[at + 2], used + entries[at + 5]
      all_micro, used_micro = all_micro + entries[at + 3], used_micro + entries[at + 6]
      all_pico, used_pico = all_pico + entries[at + 4], used_pico + entries[at + 7]
    end
  end
  return used, used_micro, used_pico, all, all_micro, all_pico
end

-- Calls back with the entries and the place of each window's own, where its facts lie in the plan,
-- its number and its key, and then answers what is counted in it. Without a callback it only answers.
local function each(change)
  local values = redis.call('MGET', unpack(KEYS, 3))
  local p, number = 2, 0
  for i = 1, #values do
    local value = values[i]
    local entries, is_changed = entries_of(value), false
    local windows, keep_ms = plan[p], plan[p + 1]
    p = p + 2
    for _ = 1, windows do
      number = number + 1
      local at = change and own_entry(entries, p)
      if at then
        change(entries, at, p, number, KEYS[i + 2])
        is_changed = true
      end
      local k = 6 * number - 3
      answer[k], answer[k + 1], answer[k + 2], answer[k + 3], answer[k + 4], answer[k + 5] =
        sums_of(entries, p)
      p = p + FACTS
    end
    if is_changed then write(KEYS[i + 2], entries, not value and keep_ms) end
  end
end

-- Counts what was used in the place of what was held, each once.
local function count(held, held_micro, held_pico)
  if not redis.call('SET', KEYS[2], 1, 'NX', 'PX', 120000) then
    answer[1] = 1
    return each()
  end
  if redis.call('ZREM', KEYS[1], lease) == 0 then held, held_micro, held_pico = 0, 0, 0 end
  each(function(entries, at)
    add(entries, at, 2, tokens - held, micro - held_micro, pico - held_pico)
    add(entries, at, 5, tokens, micro, pico)
    bound(entries, at)
  end)
end

-- Raises what is used to what a client has seen used, after the server lost it, and holds again what
-- leases say is held.
local function restore()
  local seen, held = numbers_of(ARGV[5]), {}
  for _, value in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    each_held(value, function(key, slot, start, ...)
      local name = string.format('%s %d %d', key, slot, start)
      held[name] = held[name] or {}
      table.insert(held[name], { ... })
    end)
  end
  each(function(entries, at, p, number, key)
    local used, used_micro, used_pico = sums_of(entries, p)
    local lacking = math.max(seen[3 * number - 2] - used, 0)
    local lacking_micro, lacking_pico = seen[3 * number - 1] - used_micro, seen[3 * number] - used_pico
    if lacking_micro * MICRO + lacking_pico <= 0 then lacking_micro, lacking_pico = 0, 0 end
    add(entries, at, 5, lacking, lacking_micro, lacking_pico)
    for i = 2, 4 do entries[at + i] = entries[at + i + 3] end
    for _, of_lease in ipairs(held[string.format('%s %d %d', key, plan[p], plan[p + 1])] or {}) do
      add(entries, at, 2, unpack(of_lease))
    end
  end)
end

if operation == 'settle' then
  count(string.match(lease, '^[^\n]*\n(%d+)\n(%d+)\n(%d+)\n'))
elseif operation == 'add' then
  count(0, 0, 0)
elseif operation == 'restore' then
  restore()
elseif operation == 'renew' then
  if redis.call('ZSCORE', KEYS[1], lease) then
    redis.call('ZADD', KEYS[1], 'XX', now + lease_ms, lease)
  else
    answer[1] = 1
  end
  each()
else
  end_leases()
  each()
end
return packed(answer)
