-- Counts what was used, and says what is counted in each window. ARGV[4] is the operation: settle,
-- add, renew, read or restore; ARGV[5] is what was seen used, for restore. Answers with a word, the
-- time, and of each window tokens, micro-USD and pico-USD of what is used, and of the sum with what
-- is held.

local operation = ARGV[4]

local function lines_of(value)
  local lines = {}
  for line in string.gmatch(value, '[^\n]+') do lines[#lines + 1] = line end
  return lines
end

local function give_back(value)
  local lines = lines_of(value)
  local key
  for i = 5, #lines, 3 do
    if lines[i] ~= '=' then key = lines[i] end
    local slot, start = tonumber(lines[i + 1]), tonumber(lines[i + 2])
    local entries = entries_of(redis.call('GET', key))
    for at = 1, #entries, SIZE do
      if entries[at] == slot and entries[at + 1] == start then
        add(entries, at, 2, -lines[2], -lines[3], -lines[4])
        write(key, entries)
      end
    end
  end
end

local function end_leases()
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)) do
    give_back(ended)
    redis.call('ZREM', KEYS[1], ended)
  end
end

-- Calls back with each window: its entries, where its facts lie in the plan, and its number.
local function each(visit)
  local p, number = 2, 0
  for i = 3, #KEYS do
    local value = redis.call('GET', KEYS[i])
    local entries, is_changed = entries_of(value), false
    local windows, keep_ms = plan[p], plan[p + 1]
    p = p + 2
    for _ = 1, windows do
      number = number + 1
      is_changed = visit(entries, p, number) or is_changed
      p = p + FACTS
    end
    if is_changed then write(KEYS[i], entries, not value and keep_ms) end
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
  local slot, first, sums = plan[p], plan[p + 2], { 0, 0, 0, 0, 0, 0 }
  for at = 1, #entries, SIZE do
    if entries[at] == slot and entries[at + 1] >= first then
      for i = 1, 3 do
        sums[i] = sums[i] + entries[at + 4 + i]
        sums[i + 3] = sums[i + 3] + entries[at + 1 + i]
      end
    end
  end
  return sums
end

local function count(held)
  each(function(entries, p)
    local at = own_entry(entries, p)
    if not at then return false end
    add(entries, at, 2, tokens, micro, pico)
    add(entries, at, 5, tokens, micro, pico)
    if held then add(entries, at, 2, -held[2], -held[3], -held[4]) end
    return true
  end)
end

-- Raises what is used to what a client has seen used, after the server lost it.
local function restore()
  local seen = cmsgpack.unpack(ARGV[5])
  each(function(entries, p, number)
    local at = own_entry(entries, p)
    if not at then return false end
    local sums = sums_of(entries, p)
    local lacking = { seen[3 * number - 2] - sums[1], seen[3 * number - 1] - sums[2], seen[3 * number] - sums[3] }
    local lacks_money = lacking[2] * MICRO + lacking[3] > 0
    for sum = 2, 5, 3 do
      add(entries, at, sum, math.max(lacking[1], 0), lacks_money and lacking[2] or 0, lacks_money and lacking[3] or 0)
    end
    return true
  end)
end

local word = 'done'
if operation == 'settle' then
  if redis.call('SET', KEYS[2], 1, 'NX', 'PX', 120000) then
    count(redis.call('ZREM', KEYS[1], lease) == 1 and lines_of(lease))
  else
    word = 'again'
  end
elseif operation == 'add' then
  count()
elseif operation == 'restore' then
  restore()
elseif operation == 'renew' then
  if redis.call('ZSCORE', KEYS[1], lease) then
    redis.call('ZADD', KEYS[1], 'XX', now + lease_ms, lease)
  else
    word = 'gone'
  end
else
  end_leases()
end

local answer = { word, now }
each(function(entries, p)
  local sums = sums_of(entries, p)
  for i = 1, 6 do answer[#answer + 1] = sums[i] end
end)
return answer
