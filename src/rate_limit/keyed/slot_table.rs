//! Where the keys lie: a table with open addressing, made so that a call for a key that is known
//! looks at one place in memory.
//!
//! Linear probing, and deletion that closes the gap (Knuth, *The Art of Computer Programming*,
//! vol. 3, section 6.4, algorithms L and R). A hash is scaled to the length of the table instead of
//! reduced by a remainder (Lemire, *Fast random integer generation in an interval*, 2019): so the
//! length need not be a power of two, and growth keeps the order.

/// What is looked at of every key: four to a cache line.
#[derive(Clone, Copy, Debug, Default)]
struct SlotHead {
    /// Whose slot it is; 0 if it is nobody's.
    hash: u64,
    /// What most calls need to know.
    word: u64,
}

/// What is kept of a key besides its hash.
#[derive(Debug)]
pub(super) struct Slot<'a, D> {
    pub(super) word: &'a mut u64,
    /// The rest, in an array of its own: at the same index as the head, so that the processor need
    /// not wait for one to fetch the other.
    pub(super) detail: &'a mut D,
}

/// The slots of a shard.
///
/// # Invariants
/// 1. Both arrays are equally long.
/// 2. Unless there are none, some slot is nobody's: every search ends.
/// 3. Between the home of a key and its slot there is no slot that is nobody's: a search for it
///    that starts at its home finds it.
#[derive(Debug)]
pub(super) struct SlotTable<D> {
    heads: Box<[SlotHead]>,
    details: Box<[D]>,
    keys: usize,
}

/// The table grows when three quarters of its slots are taken, and then by a quarter: a key takes
/// between 1.3 and 1.7 slots.
const FULL: (usize, usize) = (3, 4);
const FIRST: usize = 8;

impl<D> Default for SlotTable<D> {
    fn default() -> Self {
        Self {
            heads: Box::default(),
            details: Box::default(),
            keys: 0,
        }
    }
}

impl<D: Copy + Default> SlotTable<D> {
    /// Returns how many keys are kept.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// Returns how many slots there are for them.
    pub(super) fn slots(&self) -> usize {
        self.heads.len()
    }

    /// Returns which slot this key has.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<usize> {
        debug_assert!(hash != 0, "the hash of slots that are nobody's");
        let mut i = home(hash, self.heads.len());
        loop {
            match self.heads.get(i)?.hash {
                found if found == hash => return Some(i),
                0 => return None,
                _ => i = self.after(i),
            }
        }
    }

    /// Returns a slot, if somebody has it.
    #[inline]
    pub(super) fn get(&mut self, i: usize) -> Option<Slot<'_, D>> {
        let head = self.heads.get_mut(i).filter(|head| head.hash != 0)?;
        let detail = self.details.get_mut(i)?;
        let word = &mut head.word;
        Some(Slot { word, detail })
    }

    /// Returns whose slot this is, if it is somebody's.
    pub(super) fn hash(&self, i: usize) -> Option<u64> {
        let head = self.heads.get(i).filter(|head| head.hash != 0)?;
        Some(head.hash)
    }

    /// Keeps a key that is not there yet. Returns which slot it has.
    pub(super) fn insert(&mut self, hash: u64, word: u64, detail: D) -> usize {
        debug_assert!(self.find(hash).is_none(), "{hash:x} is there already");
        if (self.keys + 1) * FULL.1 > self.heads.len() * FULL.0 {
            self.grow();
        }
        self.keys += 1;
        debug_assert!(self.keys < self.heads.len(), "a search would not end");
        self.put(SlotHead { hash, word }, detail)
    }

    /// Forgets the key that has this slot. Another one may have the slot then.
    pub(super) fn remove(&mut self, mut hole: usize) {
        debug_assert!(self.heads[hole].hash != 0, "slot {hole} is nobody's");
        self.keys -= 1;
        let mut i = self.after(hole);
        while self.heads[i].hash != 0 {
            // It may move up if that is not to before its home.
            let home = home(self.heads[i].hash, self.heads.len());
            if self.distance(home, i) >= self.distance(hole, i) {
                self.heads[hole] = self.heads[i];
                self.details[hole] = self.details[i];
                hole = i;
            }
            i = self.after(i);
        }
        self.heads[hole] = SlotHead::default();
    }

    fn grow(&mut self) {
        let slots = (self.heads.len() / 4 * 5).max(self.heads.len() + FIRST);
        let heads = vec![SlotHead::default(); slots].into();
        let details = vec![D::default(); slots].into();
        let heads = std::mem::replace(&mut self.heads, heads);
        let details = std::mem::replace(&mut self.details, details);
        for (head, detail) in heads.iter().zip(&details) {
            if head.hash != 0 {
                self.put(*head, *detail);
            }
        }
    }

    fn put(&mut self, head: SlotHead, detail: D) -> usize {
        let mut i = home(head.hash, self.heads.len());
        while self.heads[i].hash != 0 {
            i = self.after(i);
        }
        self.heads[i] = head;
        self.details[i] = detail;
        i
    }

    #[inline]
    fn after(&self, i: usize) -> usize {
        if i + 1 < self.heads.len() { i + 1 } else { 0 }
    }

    /// Returns how far it is on from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        match to.checked_sub(from) {
            Some(distance) => distance,
            None => to + self.heads.len() - from,
        }
    }
}

/// Returns the first slot in which a key is looked for, by the lower half of its hash.
#[inline]
pub(super) fn home(hash: u64, slots: usize) -> usize {
    (((hash & u64::from(u32::MAX)) * slots as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_keeps_what_a_map_keeps_while_keys_come_and_go() {
        let (mut table, mut map) = (SlotTable::<u64>::default(), HashMap::new());
        let mut seed = 1_u64;
        let mut most = 0;
        for value in 0..200_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Few homes, the last one among them: long runs, and runs around the end.
            let (key, spread) = (seed % 300, 1 << 29);
            let hash = (key + 1) << 40 | (u64::from(u32::MAX) - key % 7 * spread);
            let found = table.find(hash);
            assert_eq!(found.is_some(), map.contains_key(&hash));
            // Sometimes there are more of them, sometimes fewer.
            let wanted = (seed >> 60) < (value >> 12) % 16;
            match found {
                Some(i) if !wanted => {
                    let slot = table.get(i).unwrap();
                    assert_eq!(
                        (Some(*slot.word), Some(*slot.detail)),
                        (map.remove(&hash), Some(key))
                    );
                    table.remove(i);
                }
                None if wanted => {
                    let i = table.insert(hash, value, key);
                    assert_eq!(*table.get(i).unwrap().word, value);
                    map.insert(hash, value);
                }
                _ => {}
            }
            assert_eq!(table.keys(), map.len());
            most = most.max(map.len());
        }
        assert!(most > 200 && table.slots() < 2 * most, "{most}");
        assert!(map.keys().all(|hash| table.find(*hash).is_some()));
    }

    #[test]
    fn hashes_go_everywhere_and_nowhere_else() {
        for slots in [1, 8, 1_000, 62_500_000] {
            assert_eq!(home(0, slots), 0);
            assert_eq!(home(u64::MAX, slots), slots - 1);
        }
    }
}
