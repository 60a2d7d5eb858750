//! What is done in Redis, each step as one script: nothing comes between its reads and writes.
//!
//! An entry is a hash:
//!
//! | field | is |
//! |---|---|
//! | `run` | which [run](super::wire) of Redis took it |
//! | `tok`, `base` | what the tag held then; empty without a tag |
//! | `inv` | `1`: invalidated, and kept |
//! | `t0` | when its lease was granted |
//! | `fresh`, `swr`, `sie` | what it is good for |
//! | `cost` | how long its load took |
//! | `data` | the answer |
//!
//! A lease is the text `token|t0|run|tok`. A tag is a hash of two random numbers: entries count
//! under its `base`, and are outdated unless they are under its `tok` too. A tag that was lost gets
//! new ones, so nothing that was stored under it before counts: there is no number to start again
//! from, as a counter would have.
//!
//! Times are those of Redis, in microseconds: they stay exact in Lua's numbers until the year 2255,
//! and so do the times of expiry because no window is longer than [`LONGEST`].

use ::redis::Script;
use std::{sync::LazyLock, time::Duration};

/// Longer windows are as good as this: ten years.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

const HEAD: &str = r"
local v, l, t = KEYS[1], KEYS[2], KEYS[3]
local run = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- What is current under the tag: false if the tag is not known.
local function current()
  if not t then return '', '' end
  local tag = redis.call('HMGET', t, 'tok', 'base')
  return tag[1], tag[2]
end

-- The tag must not expire before what is under it.
local function outlive(ms)
  if t and redis.call('PTTL', t) < ms then
    redis.call('PEXPIRE', t, string.format('%.0f', ms))
  end
end

-- The entry, if it counts at all, and whether it is fresh.
local function stored(tok, base)
  local e = redis.call('HMGET', v,
    'run', 'base', 'tok', 'inv', 't0', 'fresh', 'swr', 'sie', 'cost', 'data')
  -- Of another run: a restart may have brought back what had been dropped.
  if e[1] ~= run or not base or e[2] ~= base then return false, false end
  local age = now - e[5]
  local fresh, swr, sie = tonumber(e[6]), tonumber(e[7]), tonumber(e[8])
  -- Younger than nothing: the clock was set back, and nothing is known of its age.
  if age < 0 or age >= fresh + math.max(swr, sie) then return false, false end
  local outdated = e[4] == '1' or e[3] ~= tok
  return { age, fresh, swr, sie, tonumber(e[9]), outdated and 1 or 0, e[10] },
    age < fresh and not outdated
end
";

const ACQUIRE: &str = r"
local tok, base = current()
local e, fresh = stored(tok, base)
if fresh and ARGV[4] == '0' then return { 0, 0, e } end
local held = redis.call('GET', l)
if held then
  -- A lease under another run or token cannot be filled with any more: it binds nobody.
  local r, k = string.match(held, '^%x+|%d+|([^|]*)|(%x*)$')
  if r == run and k == tok then return { 2, redis.call('PTTL', l), e } end
end
local lease = tonumber(ARGV[3])
if t and not tok then
  tok = ARGV[5]
  redis.call('HSET', t, 'tok', tok, 'base', ARGV[6])
end
redis.call('SET', l, ARGV[2] .. string.format('|%.0f|', now) .. run .. '|' .. tok, 'PX', ARGV[3])
outlive(lease)
return { 1, lease, e }
";

const FILL: &str = r"
local held = redis.call('GET', l)
if not held then return 0 end
local token, t0, r, k = string.match(held, '^(%x+)|(%d+)|([^|]*)|(%x*)$')
local tok, base = current()
if token ~= ARGV[2] or r ~= run or k ~= tok then return 0 end
redis.call('DEL', v)
redis.call('HSET', v, 'run', run, 'tok', tok, 'base', base, 'inv', '0', 't0', t0,
  'fresh', ARGV[3], 'swr', ARGV[4], 'sie', ARGV[5], 'cost', ARGV[6], 'data', ARGV[7])
local ends = math.ceil((t0 + ARGV[3] + math.max(ARGV[4], ARGV[5])) / 1000)
redis.call('PEXPIREAT', v, string.format('%.0f', ends))
redis.call('DEL', l)
outlive(ends - math.floor(now / 1000) + 1)
-- Read last, or tracking in its default mode would forget the key.
redis.call('EXISTS', v)
return 1
";

const RELEASE: &str = r"
local held = redis.call('GET', l)
if held and string.match(held, '^%x+') == ARGV[2] then redis.call('DEL', l) end
return 1
";

const LOOK: &str = r"
local tok, base = current()
return (stored(tok, base))
";

const INVALIDATE: &str = r"
redis.call('DEL', l)
if ARGV[2] == 'keep' and redis.call('EXISTS', v) == 1 then
  redis.call('HSET', v, 'inv', '1')
else
  redis.call('DEL', v)
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
";

// Under a tag that is gone nothing counts, and no lease holds: that is what dropping means.
const INVALIDATE_TAG: &str = r"
if ARGV[1] ~= 'keep' then
  redis.call('DEL', KEYS[1])
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'tok', ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
";

/// Every script, with its hash.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) acquire: Script,
    pub(super) fill: Script,
    pub(super) release: Script,
    pub(super) look: Script,
    pub(super) invalidate: Script,
    pub(super) invalidate_tag: Script,
    /// The text of all of them.
    pub(super) texts: [String; 6],
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| {
    let [acquire, fill, release, look, invalidate] =
        [ACQUIRE, FILL, RELEASE, LOOK, INVALIDATE].map(|body| [HEAD, body].concat());
    let invalidate_tag = INVALIDATE_TAG.to_owned();
    Scripts {
        acquire: Script::new(&acquire),
        fill: Script::new(&fill),
        release: Script::new(&release),
        look: Script::new(&look),
        invalidate: Script::new(&invalidate),
        invalidate_tag: Script::new(&invalidate_tag),
        texts: [acquire, fill, release, look, invalidate, invalidate_tag],
    }
});

/// Microseconds: rounded down, so that nothing is fresh for too long.
pub(super) fn micros(d: Duration) -> u64 {
    u64::try_from(d.min(LONGEST).as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds: at least one, because nothing can last for none.
pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.min(LONGEST).as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
