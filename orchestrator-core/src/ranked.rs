//! Ordered sets of tasks that know the rank of each member, all in one arena.
//!
//! A treap (Seidel and Aragon, *Randomized Search Trees*, 1996) with subtree sizes: insert, remove
//! and rank take O(log n). Priorities come from mixing the task's id, so that equal histories give
//! equal trees. One arena for all sets: ten thousand tenants cost a root each, not a heap block.

use crate::types::{TaskId, Timestamp};

/// Place of a node in the arena.
type Link = u32;
const NONE: Link = u32::MAX;

/// Order inside a set: the time, then the task's id.
pub(crate) type Key = (Timestamp, TaskId);

#[derive(Debug, Clone, Copy)]
struct Node {
    key: Key,
    left: Link,
    right: Link,
    size: u32,
}

/// One ordered set; its members lie in an [`Arena`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set(Link);

impl Set {
    pub(crate) const EMPTY: Self = Self(NONE);

    pub(crate) fn is_empty(self) -> bool {
        self.0 == NONE
    }
}

#[derive(Debug, Default)]
pub(crate) struct Arena {
    nodes: Vec<Node>,
    /// Places of removed nodes.
    free: Vec<Link>,
}

impl Arena {
    pub(crate) fn first(&self, set: Set) -> Option<Key> {
        let mut at = set.0;
        let mut found = None;
        while at != NONE {
            let node = self.node(at);
            found = Some(node.key);
            at = node.left;
        }
        found
    }

    /// How many members go before `key`, whether it is one or not.
    pub(crate) fn rank(&self, set: Set, key: Key) -> u64 {
        let mut at = set.0;
        let mut before = 0;
        while at != NONE {
            let node = self.node(at);
            if key <= node.key {
                at = node.left;
            } else {
                before += u64::from(self.size(node.left)) + 1;
                at = node.right;
            }
        }
        before
    }

    pub(crate) fn insert(&mut self, set: &mut Set, key: Key) {
        let fresh = self.take_place(key);
        set.0 = self.insert_at(set.0, fresh);
    }

    /// False if `key` is no member.
    pub(crate) fn remove(&mut self, set: &mut Set, key: Key) -> bool {
        let mut removed = false;
        set.0 = self.remove_at(set.0, key, &mut removed);
        removed
    }

    /// Members in their order.
    pub(crate) fn iter(&self, set: Set) -> impl Iterator<Item = Key> {
        let mut path = Vec::new();
        self.descend(set.0, &mut path);
        std::iter::from_fn(move || {
            let at = path.pop()?;
            let node = self.node(at);
            self.descend(node.right, &mut path);
            Some(node.key)
        })
    }

    fn descend(&self, mut at: Link, path: &mut Vec<Link>) {
        while at != NONE {
            path.push(at);
            at = self.node(at).left;
        }
    }

    fn insert_at(&mut self, root: Link, fresh: Link) -> Link {
        if root == NONE {
            return fresh;
        }
        let (key, own) = (self.node(fresh).key, self.node(root));
        if priority(own.key) < priority(key) {
            let (left, right) = self.split(root, key);
            return self.join(fresh, left, right);
        }
        if key < own.key {
            let left = self.insert_at(own.left, fresh);
            self.join(root, left, own.right)
        } else {
            let right = self.insert_at(own.right, fresh);
            self.join(root, own.left, right)
        }
    }

    fn remove_at(&mut self, root: Link, key: Key, removed: &mut bool) -> Link {
        if root == NONE {
            return NONE;
        }
        let own = self.node(root);
        if key == own.key {
            *removed = true;
            self.free.push(root);
            return self.merge(own.left, own.right);
        }
        if key < own.key {
            let left = self.remove_at(own.left, key, removed);
            self.join(root, left, own.right)
        } else {
            let right = self.remove_at(own.right, key, removed);
            self.join(root, own.left, right)
        }
    }

    /// Members before `key`, and the others.
    fn split(&mut self, root: Link, key: Key) -> (Link, Link) {
        if root == NONE {
            return (NONE, NONE);
        }
        let own = self.node(root);
        if own.key < key {
            let (left, right) = self.split(own.right, key);
            (self.join(root, own.left, left), right)
        } else {
            let (left, right) = self.split(own.left, key);
            (left, self.join(root, right, own.right))
        }
    }

    /// All members of `left` go before those of `right`.
    fn merge(&mut self, left: Link, right: Link) -> Link {
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        let (first, second) = (self.node(left), self.node(right));
        if priority(second.key) < priority(first.key) {
            let inner = self.merge(first.right, right);
            self.join(left, first.left, inner)
        } else {
            let inner = self.merge(left, second.left);
            self.join(right, inner, second.right)
        }
    }

    fn join(&mut self, root: Link, left: Link, right: Link) -> Link {
        let size = self.size(left) + self.size(right) + 1;
        let node = &mut self.nodes[root as usize];
        (node.left, node.right, node.size) = (left, right, size);
        root
    }

    fn take_place(&mut self, key: Key) -> Link {
        let node = Node { key, left: NONE, right: NONE, size: 1 };
        if let Some(place) = self.free.pop() {
            self.nodes[place as usize] = node;
            return place;
        }
        let place = Link::try_from(self.nodes.len()).expect("the queue is bounded far below this");
        self.nodes.push(node);
        place
    }

    fn node(&self, at: Link) -> Node {
        self.nodes[at as usize]
    }

    fn size(&self, at: Link) -> u32 {
        if at == NONE { 0 } else { self.nodes[at as usize].size }
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood 2014): spreads consecutive ids.
fn priority(key: Key) -> u64 {
    let mixed = key.1.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        // OC-CORE-1003
        #[test]
        fn agrees_with_a_sorted_set(steps in prop::collection::vec((0..40_u64, 0..30_u64, any::<bool>()), 0..200)) {
            let mut arena = Arena::default();
            let mut set = Set::EMPTY;
            let mut model = BTreeSet::new();
            for (time, task, insert) in steps {
                let key = (Timestamp(time), TaskId(task));
                if insert {
                    if model.insert(key) {
                        arena.insert(&mut set, key);
                    }
                } else {
                    prop_assert_eq!(arena.remove(&mut set, key), model.remove(&key));
                }
                prop_assert_eq!(u64::from(arena.size(set.0)), model.len() as u64);
                prop_assert_eq!(arena.first(set), model.first().copied());
                prop_assert_eq!(arena.rank(set, key), model.range(..key).count() as u64);
            }
            prop_assert!(arena.iter(set).eq(model));
        }
    }

    // OC-CORE-1003
    #[test]
    fn depth_grows_with_the_logarithm() {
        let depth_of = |members: u64| {
            let mut arena = Arena::default();
            let mut set = Set::EMPTY;
            (0..members).for_each(|it| arena.insert(&mut set, (Timestamp(it), TaskId(it))));
            arena.depth(set.0)
        };
        // An expected 1.39 log2 n on a path; the deepest is under three times that.
        assert!(depth_of(100_000) < 17 * 4, "{}", depth_of(100_000));
    }

    impl Arena {
        fn depth(&self, at: Link) -> usize {
            if at == NONE {
                return 0;
            }
            1 + self.depth(self.node(at).left).max(self.depth(self.node(at).right))
        }
    }
}
