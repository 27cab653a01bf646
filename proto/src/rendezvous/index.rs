//! Where in a table something is, by the hash of what it is found by.
//!
//! A table of eight bytes an entry with open addressing and linear probing, since what a peer costs is what a broker of a
//! million peers pays a million times, and a search that goes through a tree waits for memory at each of its levels. Entries lie
//! in the order of their hashes. Nothing ever goes through them in that order, so no output depends on the hashes.
//!
//! It is made of [`SHARDS`] tables, each of which grows by itself and a quarter at a time: a million entries never
//! move at once, and at most two fifths of the room are unused.

/// Tables beside each other; a power of two. Growing one of them with a million entries in all moves 15,000: some 100 µs.
const SHARDS: usize = 64;
/// Room of a table that has any.
const SMALLEST: usize = 16;

/// Places by hash.
#[derive(Debug)]
pub(super) struct Index(Vec<Shard>);

#[derive(Debug, Default, Clone)]
struct Shard {
    entries: Vec<Option<Entry>>,
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    place: Place,
}

/// The number of a place; one less than what is kept, so that an empty entry needs no room of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(std::num::NonZeroU32);

impl Place {
    fn new(place: u32) -> Self {
        Self(std::num::NonZeroU32::MIN.saturating_add(place))
    }

    fn number(self) -> u32 {
        self.0.get() - 1
    }
}

impl Default for Index {
    fn default() -> Self {
        Self(vec![Shard::default(); SHARDS])
    }
}

impl Index {
    /// The place with this hash of which `is_it` says that it is meant.
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.0[shard(hash)].find(hash as u32, is_it)
    }

    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, hash: u64, place: u32) {
        self.0[shard(hash)].insert(Entry { hash: hash as u32, place: Place::new(place) });
    }

    /// Removes a place.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        self.0[shard(hash)].remove(hash as u32, Place::new(place));
    }
}

fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl Shard {
    /// Where an entry with this hash lies if nothing is in its way.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.entries.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        while let Some(entry) = self.entries.get(at).copied().flatten() {
            if entry.hash == hash && is_it(entry.place.number()) {
                return Some(entry.place.number());
            }
            at = self.after(at);
        }
        None
    }

    fn insert(&mut self, entry: Entry) {
        if (self.used + 1) * 5 > self.entries.len() * 4 {
            self.grow();
        }
        self.used += 1;
        self.put(entry);
    }

    fn put(&mut self, entry: Entry) {
        let mut at = self.home(entry.hash);
        while self.entries[at].is_some() {
            at = self.after(at);
        }
        self.entries[at] = Some(entry);
    }

    fn grow(&mut self) {
        let room = (self.entries.len() + self.entries.len() / 4).max(SMALLEST);
        let before = std::mem::replace(&mut self.entries, vec![None; room]);
        before.into_iter().flatten().for_each(|entry| self.put(entry));
    }

    fn remove(&mut self, hash: u32, place: Place) {
        let mut hole = self.home(hash);
        loop {
            match self.entries.get(hole).copied().flatten() {
                Some(entry) if entry.place == place => break,
                Some(_) => hole = self.after(hole),
                None => return,
            }
        }
        // What lies behind the hole moves into it, unless it would come to lie before its home.
        let room = self.entries.len();
        let mut at = self.after(hole);
        while let Some(entry) = self.entries[at] {
            let from_home = |to: usize| (to + room - self.home(entry.hash)) % room;
            if from_home(hole) <= from_home(at) {
                self.entries[hole] = Some(entry);
                hole = at;
            }
            at = self.after(at);
        }
        self.entries[hole] = None;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_in_is_found_until_it_is_taken_out(
            // Few hashes, so that many entries are in each other's way.
            steps in proptest::collection::vec((any::<bool>(), 0..40_u32, 0..6_u64), 1..400),
        ) {
            let (mut index, mut known) = (Index::default(), BTreeMap::new());
            for (puts, place, hash) in steps {
                let hash = hash * 0x3FFF_FFFF;
                match known.get(&place).copied() {
                    None if puts => {
                        index.insert(hash, place);
                        known.insert(place, hash);
                    }
                    Some(hash) if !puts => {
                        index.remove(hash, place);
                        known.remove(&place);
                    }
                    Some(_) | None => {}
                }
                for place in 0..40 {
                    let hash = known.get(&place).copied();
                    let found = hash.and_then(|hash| index.find(hash, |it| it == place));
                    prop_assert_eq!(found, hash.map(|_| place));
                }
            }
            let used: usize = index.0.iter().map(|shard| shard.used).sum();
            prop_assert_eq!(used, known.len());
        }
    }

    #[test]
    fn an_entry_takes_eight_bytes_and_a_table_is_never_fuller_than_four_fifths() {
        assert_eq!(size_of::<Option<Entry>>(), 8);
        let mut index = Index::default();
        for place in 0..100_000 {
            index.insert(u64::from(place).wrapping_mul(0x9E37_79B9_7F4A_7C15), place);
        }
        for shard in &index.0 {
            assert!(shard.used * 5 <= shard.entries.len() * 4);
            assert!(
                shard.used * 2 > shard.entries.len(),
                "{} of {}",
                shard.used,
                shard.entries.len()
            );
        }
    }
}
