//! Lists whose members can leave from anywhere in no time: a slab with links in it.

const NIL: u32 = u32::MAX;
/// Above this many places an empty slab gives its memory back.
const KEPT: usize = 1_024;

/// A place in a [`Slab`]. It is never used twice.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct NodeKey {
    index: u32,
    serial: u64,
}

/// Places for items, which know their neighbours in a list.
///
/// # Invariants
/// 1. A key is used once: a node's serial number is that of the key that it was last given to.
/// 2. Nodes without an item are on the list that begins at `vacant`, linked by `next`.
/// 3. `len` is the number of nodes with an item.
#[derive(Debug)]
pub(super) struct Slab<T> {
    nodes: Vec<Node<T>>,
    vacant: u32,
    len: usize,
    serial: u64,
}

#[derive(Debug)]
struct Node<T> {
    serial: u64,
    prev: u32,
    next: u32,
    item: Option<T>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: NIL,
            len: 0,
            serial: 0,
        }
    }

    /// Inserts an item, in no list yet.
    pub(super) fn insert(&mut self, item: T) -> NodeKey {
        self.serial += 1;
        self.len += 1;
        let serial = self.serial;
        let fresh = |next| Node {
            serial,
            prev: NIL,
            next,
            item: Some(item),
        };
        let index = self.vacant;
        if let Some(node) = self.nodes.get_mut(index as usize) {
            self.vacant = node.next;
            *node = fresh(NIL);
            return NodeKey { index, serial };
        }
        let index = self.nodes.len() as u32;
        self.nodes.push(fresh(NIL));
        NodeKey { index, serial }
    }

    pub(super) fn get_mut(&mut self, key: NodeKey) -> Option<&mut T> {
        let node = self.nodes.get_mut(key.index as usize)?;
        (node.serial == key.serial).then_some(node.item.as_mut())?
    }

    /// Removes what is there; it must be in no list any more.
    pub(super) fn remove(&mut self, key: NodeKey) -> Option<T> {
        let vacant = self.vacant;
        let node = self.nodes.get_mut(key.index as usize)?;
        if node.serial != key.serial {
            return None;
        }
        let item = node.item.take()?;
        node.next = vacant;
        self.vacant = key.index;
        debug_assert!(self.len > 0, "an item that was not counted");
        self.len -= 1;
        if self.len == 0 && self.nodes.capacity() > KEPT {
            self.nodes = Vec::new();
            self.vacant = NIL;
        }
        Some(item)
    }

    fn key(&self, index: u32) -> Option<NodeKey> {
        let serial = self.nodes.get(index as usize)?.serial;
        Some(NodeKey { index, serial })
    }
}

/// The two ends of a list in a slab, oldest first.
///
/// # Invariants
/// 1. From `head` along `next` come the same nodes as from `tail` along `prev`, the other way
///    round.
/// 2. All of them have an item: a member is unlinked before it is removed.
/// 3. Both ends are `NIL`, or neither is.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        Self {
            head: NIL,
            tail: NIL,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    pub(super) fn oldest<T>(&self, slab: &Slab<T>) -> Option<NodeKey> {
        slab.key(self.head)
    }

    pub(super) fn newest<T>(&self, slab: &Slab<T>) -> Option<NodeKey> {
        slab.key(self.tail)
    }

    pub(super) fn push<T>(&mut self, slab: &mut Slab<T>, key: NodeKey) {
        debug_assert!(slab.get_mut(key).is_some(), "nothing there to be in a list");
        debug_assert_eq!(
            self.head == NIL,
            self.tail == NIL,
            "one end without the other"
        );
        let last = std::mem::replace(&mut self.tail, key.index);
        match slab.nodes.get_mut(last as usize) {
            Some(node) => node.next = key.index,
            None => self.head = key.index,
        }
        if let Some(node) = slab.nodes.get_mut(key.index as usize) {
            (node.prev, node.next) = (last, NIL);
        }
    }

    /// Takes a member out of the list; it must be in this one.
    pub(super) fn unlink<T>(&mut self, slab: &mut Slab<T>, key: NodeKey) {
        let Some(node) = slab.nodes.get(key.index as usize) else {
            return;
        };
        let (prev, next) = (node.prev, node.next);
        debug_assert_eq!(prev == NIL, self.head == key.index, "not of this list");
        debug_assert_eq!(next == NIL, self.tail == key.index, "not of this list");
        match slab.nodes.get_mut(prev as usize) {
            Some(node) => node.next = next,
            None => self.head = next,
        }
        match slab.nodes.get_mut(next as usize) {
            Some(node) => node.prev = prev,
            None => self.tail = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(list: &mut List, slab: &mut Slab<u32>) -> Vec<u32> {
        let mut all = Vec::new();
        while let Some(key) = list.oldest(slab) {
            list.unlink(slab, key);
            all.extend(slab.remove(key));
        }
        all
    }

    #[test]
    fn members_leave_from_the_ends_and_the_middle_and_places_are_used_again() {
        let (mut slab, mut list) = (Slab::new(), List::new());
        for round in 0..3 {
            let keys: Vec<NodeKey> = (0..6).map(|n| slab.insert(n)).collect();
            keys.iter().for_each(|&key| list.push(&mut slab, key));
            for out in [0, 3, 5] {
                list.unlink(&mut slab, keys[out]);
                assert_eq!(slab.remove(keys[out]), Some(out as u32));
                assert_eq!(slab.remove(keys[out]), None, "round {round}");
            }
            assert_eq!(list.newest(&slab), Some(keys[4]));
            assert_eq!(drain(&mut list, &mut slab), [1, 2, 4]);
            assert!(list.is_empty() && list.newest(&slab).is_none());
            assert_eq!(slab.nodes.len(), 6);
        }
    }

    #[test]
    fn a_key_of_the_past_finds_nothing_even_after_the_memory_was_given_back() {
        let mut slab = Slab::new();
        let keys: Vec<NodeKey> = (0..2_000).map(|n| slab.insert(n)).collect();
        keys.iter()
            .for_each(|&key| assert!(slab.remove(key).is_some()));
        assert_eq!(slab.nodes.capacity(), 0);
        let new = slab.insert(7);
        assert_eq!(slab.get_mut(keys[0]), None);
        assert_eq!(slab.get_mut(new), Some(&mut 7));
    }
}
