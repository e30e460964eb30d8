
-- Holds what a call may use at most in all its windows, or in none. The keys after the first hold
-- windows. ARGV[4] is `force` to hold without a look, and `new` to keep the keys for longer. Answers
-- with the time if it holds, -1 if it does not fit, -2 if something that was seen used is lost, and
-- with the negative time if the windows are not those of now.

local is_forced, is_new = ARGV[4] == 'force', ARGV[4] == 'new'
if not is_forced and now >= plan[1] then return -now end

local values = redis.call('MGET', unpack(KEYS, 2))
local changed, keep_ms = {}, {}
local p = 2
for i = 1, #values do
  local value = values[i]
  local entries = entries_of(value)
  local windows = plan[p]
  if not value or is_new then keep_ms[i] = plan[p + 1] end
  p = p + 2
  for _ = 1, windows do
    local slot, start, first = plan[p], plan[p + 1], plan[p + 2]
    local all, all_micro, all_pico, own = tokens, micro, pico, nil
    for at = 1, #entries, SIZE do
      if entries[at] == slot and entries[at + 1] >= first then
        all = all + entries[at + 2]
        all_micro = all_micro + entries[at + 3]
        all_pico = all_pico + entries[at + 4]
        if entries[at + 1] == start then own = at end
      end
    end
    if not is_forced then
      if not own and plan[p + 6] == 1 then return -2 end
      all_micro = all_micro + floor(all_pico / MICRO)
      if all > plan[p + 3] or all_micro > plan[p + 4]
        or (all_micro == plan[p + 4] and all_pico % MICRO > plan[p + 5]) then
        return -1
      end
    end
    own = own or new_entry(entries, slot, start, first)
    add(entries, own, 2, tokens, micro, pico)
    p = p + FACTS
  end
  changed[i] = entries
end

-- A client that lost the answer asks again; it holds once.
if redis.call('ZADD', KEYS[1], 'NX', now + lease_ms, lease) == 1 then
  for i = 1, #changed do write(KEYS[i + 1], changed[i], keep_ms[i]) end
end
return now
