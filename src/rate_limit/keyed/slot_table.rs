//! Where the keys lie: a table with open addressing, made so that a call for a key that is known
//! looks at one place in memory.
//!
//! Linear probing, and deletion that closes the gap (Knuth, *The Art of Computer Programming*,
//! vol. 3, section 6.4, algorithms L and R). A hash is scaled to the length of the table instead of
//! reduced by a remainder (Lemire, *Fast random integer generation in an interval*, 2019): so the
//! length need not be a power of two, and growth keeps the order.

/// What is looked at of every key: four to a cache line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// Whose it is; 0 if it is nobody's.
    hash: u64,
    /// What most calls need to know.
    pub(super) word: u64,
}

/// What is kept of a key besides its hash, opened.
#[derive(Debug)]
pub(super) struct Cell<'a, B> {
    pub(super) word: &'a mut u64,
    /// The rest, in an array of its own: at the same place as the head, so that the processor need
    /// not wait for one to fetch the other.
    pub(super) body: &'a mut B,
}

#[derive(Debug)]
pub(super) struct Cells<B> {
    heads: Box<[Head]>,
    bodies: Box<[B]>,
    len: usize,
}

/// The table grows when three quarters of its places are taken, and then by a quarter: a key takes
/// between 1.3 and 1.7 places.
const FULL: (usize, usize) = (3, 4);
const FIRST: usize = 8;

impl<B: Copy + Default> Cells<B> {
    pub(super) fn new() -> Self {
        Self {
            heads: Box::default(),
            bodies: Box::default(),
            len: 0,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many places there are for them.
    pub(super) fn places(&self) -> usize {
        self.heads.len()
    }

    /// Where this key's cell is.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<usize> {
        let mut i = home(hash, self.heads.len());
        // There is always a place that nobody has, or no place at all.
        loop {
            match self.heads.get(i)?.hash {
                found if found == hash => return Some(i),
                0 => return None,
                _ => i = self.after(i),
            }
        }
    }

    /// The cell at a place, if somebody has it.
    #[inline]
    pub(super) fn get(&mut self, i: usize) -> Option<Cell<'_, B>> {
        let head = self.heads.get_mut(i).filter(|head| head.hash != 0)?;
        let body = self.bodies.get_mut(i)?;
        let word = &mut head.word;
        Some(Cell { word, body })
    }

    /// Keeps a key that is not there yet. Returns where.
    pub(super) fn insert(&mut self, hash: u64, word: u64, body: B) -> usize {
        if (self.len + 1) * FULL.1 > self.heads.len() * FULL.0 {
            self.grow();
        }
        self.len += 1;
        self.put(Head { hash, word }, body)
    }

    /// Forgets the key at a place, which another one may then have.
    pub(super) fn remove(&mut self, mut hole: usize) {
        self.len -= 1;
        let mut i = self.after(hole);
        while self.heads[i].hash != 0 {
            // It may move up if that is not to before its home.
            let home = home(self.heads[i].hash, self.heads.len());
            if self.distance(home, i) >= self.distance(hole, i) {
                self.heads[hole] = self.heads[i];
                self.bodies[hole] = self.bodies[i];
                hole = i;
            }
            i = self.after(i);
        }
        self.heads[hole] = Head::default();
    }

    fn grow(&mut self) {
        let places = (self.heads.len() / 4 * 5).max(self.heads.len() + FIRST);
        let heads = vec![Head::default(); places].into();
        let bodies = vec![B::default(); places].into();
        let heads = std::mem::replace(&mut self.heads, heads);
        let bodies = std::mem::replace(&mut self.bodies, bodies);
        for (head, body) in heads.iter().zip(&bodies) {
            if head.hash != 0 {
                self.put(*head, *body);
            }
        }
    }

    fn put(&mut self, head: Head, body: B) -> usize {
        let mut i = home(head.hash, self.heads.len());
        while self.heads[i].hash != 0 {
            i = self.after(i);
        }
        self.heads[i] = head;
        self.bodies[i] = body;
        i
    }

    #[inline]
    fn after(&self, i: usize) -> usize {
        if i + 1 < self.heads.len() { i + 1 } else { 0 }
    }

    /// How far it is on from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        match to.checked_sub(from) {
            Some(distance) => distance,
            None => to + self.heads.len() - from,
        }
    }
}

/// The first place at which a key is looked for, by the lower half of its hash.
#[inline]
fn home(hash: u64, places: usize) -> usize {
    (((hash & u64::from(u32::MAX)) * places as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_keeps_what_a_map_keeps_while_keys_come_and_go() {
        let (mut cells, mut map) = (Cells::<u64>::new(), HashMap::new());
        let mut seed = 1_u64;
        let mut most = 0;
        for value in 0..200_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Few homes, the last one among them: long runs, and runs around the end.
            let (key, spread) = (seed % 300, 1 << 29);
            let hash = (key + 1) << 40 | (u64::from(u32::MAX) - key % 7 * spread);
            let found = cells.find(hash);
            assert_eq!(found.is_some(), map.contains_key(&hash));
            // Sometimes there are more of them, sometimes fewer.
            let wanted = (seed >> 60) < (value >> 12) % 16;
            match found {
                Some(i) if !wanted => {
                    let cell = cells.get(i).unwrap();
                    assert_eq!(
                        (Some(*cell.word), Some(*cell.body)),
                        (map.remove(&hash), Some(key))
                    );
                    cells.remove(i);
                }
                None if wanted => {
                    let i = cells.insert(hash, value, key);
                    assert_eq!(*cells.get(i).unwrap().word, value);
                    map.insert(hash, value);
                }
                _ => {}
            }
            assert_eq!(cells.len(), map.len());
            most = most.max(map.len());
        }
        assert!(most > 200 && cells.places() < 2 * most, "{most}");
        assert!(map.keys().all(|hash| cells.find(*hash).is_some()));
    }

    #[test]
    fn hashes_go_everywhere_and_nowhere_else() {
        for places in [1, 8, 1_000, 62_500_000] {
            assert_eq!(home(0, places), 0);
            assert_eq!(home(u64::MAX, places), places - 1);
        }
    }
}
