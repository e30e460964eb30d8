-- How windows lie in Redis. Both scripts begin with this.
--
-- A key holds the windows of one owner, or the slices of one window that slides: entries of eight
-- doubles {slot, start, tokens, micro-USD, pico-USD, and the same three of what is used}. The
-- first three are the sum of used and held. Money is in two numbers, because a double has 53 bits.
-- The slot tells the windows of an owner apart; an entry of a slot that has begun again is dropped.
-- A lease is its id, tokens, micro-USD, pico-USD, and then in turn a key, a slot and a start; the
-- key is `=` where it is that of the window before.
--
-- KEYS[1] is the sorted set of leases by the millisecond in which each ends; which of the others
-- hold windows, each script says.
-- Few arguments come, because a client takes longer for many than a script does to take them apart,
-- and numbers come and go as doubles, which are taken apart fastest. ARGV[1] is the clock in
-- milliseconds, 0 for this server's, the milliseconds of the lease, tokens, micro-USD and pico-USD.
-- ARGV[2] is the lease, and ARGV[3] the windows: the millisecond in which the first of them ends,
-- and of each key its number of windows, the milliseconds to keep it, and of each window seven:
-- slot, start, first start that counts, most tokens, most micro-USD, most pico-USD, whether use was
-- seen in it.

local SIZE = 8
local FACTS = 7
local MICRO = 1000000
local floor = math.floor

local function numbers_of(value)
  local numbers = { struct.unpack('<' .. string.rep('d', #value / 8), value) }
  numbers[#numbers] = nil -- the position after the last
  return numbers
end

local function packed(numbers)
  return struct.pack('<' .. string.rep('d', #numbers), unpack(numbers))
end

local now, lease_ms, tokens, micro, pico = struct.unpack('<ddddd', ARGV[1])
local lease, plan = ARGV[2], numbers_of(ARGV[3])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

local function entries_of(value)
  return value and numbers_of(value) or {}
end

local function write(key, entries, keep_ms)
  if keep_ms then
    redis.call('SET', key, packed(entries), 'PX', keep_ms)
  else
    redis.call('SET', key, packed(entries), 'KEEPTTL')
  end
end

-- Returns a place for an entry at 0: that of one which counts no more, or the end.
local function new_entry(entries, slot, start, first)
  local at = #entries + 1
  for i = 1, #entries, SIZE do
    if entries[i] == slot and entries[i + 1] < first then at = i end
  end
  entries[at], entries[at + 1] = slot, start
  for i = at + 2, at + SIZE - 1 do entries[i] = 0 end
  return at
end

-- Adds to a sum of an entry: 2 is where that of used and held begins, 5 that of used.
local function add(entries, at, sum, by_tokens, by_micro, by_pico)
  local i = at + sum
  local whole = entries[i + 2] + by_pico
  entries[i] = entries[i] + by_tokens
  entries[i + 1] = entries[i + 1] + by_micro + floor(whole / MICRO)
  entries[i + 2] = whole % MICRO
end
