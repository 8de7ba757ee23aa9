//! Which values wait on disk, so that those in memory stay below a limit.
//!
//! The order of the tasks is known, so it is known when each value is read next. Where room is wanted, the value goes that is not read for the
//! longest time (Belady, A study of replacement algorithms for a virtual-storage computer, 1966). A value does not change: it is
//! written once, and read as often as it is wanted again.

use super::Step;
use super::schedule::{Place, Task, elements};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What moves between memory and disk before a task, and what is given up after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moves {
    /// From memory, in this order; those that are on disk already are only forgotten.
    pub(super) out: Vec<Place>,
    /// From disk into memory, where they stay on disk as well.
    pub(super) back: Vec<Place>,
    /// Read for the last time by the task.
    pub(super) over: Vec<Place>,
}

/// Where an input is before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Memory,
    Disk,
    /// Nobody reads it.
    Nowhere,
}

/// How the values of a circuit are kept below a limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spill {
    /// Where each input begins.
    pub(super) inputs: Vec<Begin>,
    /// Before each task, and one more at the end, which brings the results back.
    pub(super) moves: Vec<Moves>,
    /// Bytes in memory at one time, at most.
    pub(crate) held_bytes: u64,
    /// Bytes on disk at one time, at most.
    pub(crate) disk_bytes: u64,
    /// Bytes written in all.
    pub(crate) written_bytes: u64,
    /// Bytes read in all.
    pub(crate) read_bytes: u64,
}

/// A limit that is too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLow {
    /// Bytes for what one task reads and writes, of the largest.
    pub(crate) needed: u64,
}

impl Spill {
    /// Plans for at most `limit` bytes in memory, by the size of a value, and of what a task needs beside what it reads and writes.
    pub(super) fn plan(
        steps: &[Step],
        tasks: &[Task],
        size: impl Fn(&Place) -> u64,
        beside: impl Fn(&Task) -> u64,
        limit: u64,
    ) -> Result<Self, TooLow> {
        let all = |places: &[Place]| places.iter().map(&size).sum::<u64>();
        let results = results(steps);
        let working = |task: &Task| all(&task.reads) + all(&task.writes(steps)) + beside(task);
        let needed = tasks.iter().map(working).fold(all(&results), u64::max);
        if needed > limit {
            return Err(TooLow { needed });
        }
        let mut state = State::new(tasks, &results, &size);
        let inputs = state.begin(steps, limit);
        let mut moves = Vec::with_capacity(tasks.len() + 1);
        for (at, task) in tasks.iter().enumerate() {
            let written = task.writes(steps);
            let mut next = state.make_room(&task.reads, all(&written) + beside(task), limit);
            written.iter().for_each(|&place| state.enter(place));
            state.held = state.held.max(state.bytes + beside(task));
            next.over = state.leave(at, task.reads.iter().chain(&written));
            moves.push(next);
        }
        moves.push(state.make_room(&results, 0, limit));
        state.held = state.held.max(state.bytes);
        Ok(Self {
            inputs,
            moves,
            held_bytes: state.held,
            disk_bytes: state.most_on_disk,
            written_bytes: state.written,
            read_bytes: state.read,
        })
    }
}

/// The values of the last node.
fn results(steps: &[Step]) -> Vec<Place> {
    let Some(last) = steps.len().checked_sub(1) else {
        return Vec::new();
    };
    let place = |index| Place {
        node: last,
        raw: false,
        index,
    };
    (0..elements(steps, last)).map(place).collect()
}

/// What is where while a plan is made.
struct State<'a, S> {
    size: &'a S,
    /// When each value is read, the last time first. Results are read at the end.
    reads: HashMap<Place, Vec<usize>>,
    /// Values in memory by when they are read next.
    memory: BTreeSet<(usize, Place)>,
    disk: HashSet<Place>,
    bytes: u64,
    held: u64,
    on_disk: u64,
    most_on_disk: u64,
    written: u64,
    read: u64,
}

impl<'a, S: Fn(&Place) -> u64> State<'a, S> {
    fn new(tasks: &[Task], results: &[Place], size: &'a S) -> Self {
        let mut reads: HashMap<Place, Vec<usize>> = HashMap::new();
        for &place in results {
            reads.entry(place).or_default().push(tasks.len());
        }
        for (at, task) in tasks.iter().enumerate().rev() {
            for &place in &task.reads {
                reads.entry(place).or_default().push(at);
            }
        }
        Self {
            size,
            reads,
            memory: BTreeSet::new(),
            disk: HashSet::new(),
            bytes: 0,
            held: 0,
            on_disk: 0,
            most_on_disk: 0,
            written: 0,
            read: 0,
        }
    }

    /// When a value is read next; never for those that nobody reads any more.
    fn next(&self, place: &Place) -> usize {
        let next = self.reads.get(place).and_then(|reads| reads.last());
        next.copied().unwrap_or(usize::MAX)
    }

    /// Puts the inputs where they begin: those that are read first into memory, while there is room.
    fn begin(&mut self, steps: &[Step], limit: u64) -> Vec<Begin> {
        let count = steps.first().map_or(0, |_| elements(steps, 0));
        let mut inputs: Vec<Place> = (0..count).map(Place::input).collect();
        inputs.sort_by_key(|input| self.next(input));
        let mut begins = vec![Begin::Nowhere; count];
        for input in inputs {
            if self.next(&input) == usize::MAX {
                continue;
            }
            begins[input.index] = if self.bytes + (self.size)(&input) <= limit {
                self.enter(input);
                Begin::Memory
            } else {
                self.write(input);
                Begin::Disk
            };
        }
        self.held = self.bytes;
        begins
    }

    fn enter(&mut self, place: Place) {
        self.memory.insert((self.next(&place), place));
        self.bytes += (self.size)(&place);
    }

    fn write(&mut self, place: Place) {
        if self.disk.insert(place) {
            let bytes = (self.size)(&place);
            self.written += bytes;
            self.on_disk += bytes;
            self.most_on_disk = self.most_on_disk.max(self.on_disk);
        }
    }

    /// Brings what is wanted into memory, and moves others out until there is room for it and for `more` bytes. There is always enough to move out,
    /// since the limit is no less than what one task needs.
    fn make_room(&mut self, wanted: &[Place], more: u64, limit: u64) -> Moves {
        let pinned: HashSet<&Place> = wanted.iter().collect();
        let in_memory = |place: &Place| self.memory.contains(&(self.next(place), *place));
        let mut back: Vec<Place> = pinned.iter().map(|place| **place).collect();
        back.retain(|place| !in_memory(place));
        back.sort_unstable();
        let coming = more + back.iter().map(self.size).sum::<u64>();
        let mut out = Vec::new();
        let mut last = self.memory.iter().next_back().copied();
        while let Some(entry) = last.filter(|_| self.bytes + coming > limit) {
            last = self.memory.range(..entry).next_back().copied();
            if pinned.contains(&entry.1) {
                continue;
            }
            self.memory.remove(&entry);
            self.bytes -= (self.size)(&entry.1);
            self.write(entry.1);
            out.push(entry.1);
        }
        for &place in &back {
            self.read += (self.size)(&place);
            self.enter(place);
        }
        Moves {
            out,
            back,
            over: Vec::new(),
        }
    }

    /// After a task: what it read is read later next, or is over.
    fn leave<'p>(&mut self, at: usize, touched: impl Iterator<Item = &'p Place>) -> Vec<Place> {
        let mut over = Vec::new();
        for place in touched {
            let before = self.next(place);
            if let Some(reads) = self.reads.get_mut(place) {
                while reads.last() == Some(&at) {
                    reads.pop();
                }
            }
            // A task can read a value twice.
            if !self.memory.remove(&(before, *place)) {
                continue;
            }
            let next = self.next(place);
            if next != usize::MAX {
                self.memory.insert((next, *place));
                continue;
            }
            let bytes = (self.size)(place);
            self.bytes -= bytes;
            if self.disk.remove(place) {
                self.on_disk -= bytes;
            }
            over.push(*place);
        }
        over
    }
}

/// Values that are not in memory.
pub(crate) trait Shelf<V>: Sync {
    /// Why a value cannot be put there or taken back.
    type Error: Send;
    /// Puts a value there.
    fn put(&self, place: Place, value: &V) -> Result<(), Self::Error>;
    /// A copy of one that is there.
    fn get(&self, place: Place) -> Result<V, Self::Error>;
    /// Removes one that is there.
    fn remove(&self, place: Place) -> Result<(), Self::Error>;
}

/// The values of a circuit that is being evaluated, in memory and on a shelf.
pub(crate) struct Stored<V, S> {
    memory: HashMap<Place, V>,
    shelved: HashSet<Place>,
    shelf: S,
}

impl<V: Send + Sync, S: Shelf<V>> Stored<V, S> {
    pub(crate) fn new(shelf: S) -> Self {
        Self {
            memory: HashMap::new(),
            shelved: HashSet::new(),
            shelf,
        }
    }

    /// Takes an input.
    pub(crate) fn input(&mut self, spill: &Spill, index: usize, value: V) -> Result<(), S::Error> {
        let place = Place::input(index);
        match spill.inputs.get(index) {
            Some(Begin::Memory) => drop(self.memory.insert(place, value)),
            Some(Begin::Disk) => {
                self.shelf.put(place, &value)?;
                self.shelved.insert(place);
            }
            Some(Begin::Nowhere) | None => {}
        }
        Ok(())
    }

    /// A value in memory.
    pub(super) fn get(&self, place: &Place) -> &V {
        &self.memory[place]
    }

    pub(super) fn enter(&mut self, values: impl Iterator<Item = (Place, V)>) {
        self.memory.extend(values);
    }

    /// Does what comes before a task. Packing and unpacking take longer than the disk, so both are done in parallel.
    pub(super) fn prepare(&mut self, moves: &Moves) -> Result<(), S::Error> {
        let leaving = moves
            .out
            .iter()
            .filter_map(|place| self.memory.remove_entry(place));
        let leaving: Vec<(Place, V)> = leaving.collect();
        let new = leaving
            .par_iter()
            .filter(|(place, _)| !self.shelved.contains(place));
        new.try_for_each(|(place, value)| self.shelf.put(*place, value))?;
        self.shelved.extend(leaving.iter().map(|&(place, _)| place));
        drop(leaving);
        let back = moves
            .back
            .par_iter()
            .map(|&place| Ok((place, self.shelf.get(place)?)));
        let back: Vec<(Place, V)> = back.collect::<Result<_, S::Error>>()?;
        self.memory.extend(back);
        Ok(())
    }

    /// Does what comes after one.
    pub(super) fn give_up(&mut self, moves: &Moves) -> Result<(), S::Error> {
        for place in &moves.over {
            self.memory.remove(place);
            if self.shelved.remove(place) {
                self.shelf.remove(*place)?;
            }
        }
        Ok(())
    }

    /// The values that are left, by index: the results.
    pub(super) fn into_values(self) -> Vec<V> {
        let mut left: Vec<(Place, V)> = self.memory.into_iter().collect();
        left.sort_by_key(|(place, _)| place.index);
        left.into_iter().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scales;
    use super::super::schedule::tests::{RESIDUAL, STRIDES, steps};
    use super::super::schedule::{peak, schedule};
    use super::*;

    fn size(place: &Place) -> u64 {
        if place.raw { 3 } else { 2 }
    }

    /// Does what the plan says, and finds every value where it must be.
    fn follow(steps: &[Step], tasks: &[Task], spill: &Spill, limit: u64) {
        let starting = |kind| {
            let inputs = spill.inputs.iter().enumerate();
            inputs
                .filter(move |&(_, &begin)| begin == kind)
                .map(|(index, _)| Place::input(index))
        };
        let mut memory: HashSet<Place> = starting(Begin::Memory).collect();
        let mut disk: HashSet<Place> = starting(Begin::Disk).collect();
        let total = |places: &HashSet<Place>| places.iter().map(size).sum::<u64>();
        let (mut held, mut on_disk) = (total(&memory), total(&disk));
        let mut written = on_disk;
        let mut read = 0;
        for (at, moves) in spill.moves.iter().enumerate() {
            for place in &moves.out {
                assert!(memory.remove(place));
                written += if disk.insert(*place) { size(place) } else { 0 };
            }
            for place in &moves.back {
                assert!(disk.contains(place) && memory.insert(*place));
                read += size(place);
            }
            on_disk = on_disk.max(total(&disk));
            held = held.max(total(&memory));
            let Some(task) = tasks.get(at) else { continue };
            assert!(task.reads.iter().all(|place| memory.contains(place)));
            for place in task.writes(steps) {
                assert!(!disk.contains(&place) && memory.insert(place));
            }
            held = held.max(total(&memory) + 1);
            for place in &moves.over {
                assert!(memory.remove(place));
                disk.remove(place);
                assert!(!tasks[at + 1..].iter().any(|later| later.reads.contains(place)));
            }
        }
        let results: HashSet<Place> = results(steps).into_iter().collect();
        assert_eq!(memory, results);
        assert!(disk.iter().all(|place| results.contains(place)));
        assert!(held <= limit);
        let planned = (
            spill.held_bytes,
            spill.disk_bytes,
            spill.written_bytes,
            spill.read_bytes,
        );
        assert_eq!((held, on_disk, written, read), planned);
    }

    #[test]
    fn what_is_read_is_in_memory_and_memory_keeps_its_limit() {
        for (layers, scales) in [STRIDES, RESIDUAL]
            .iter()
            .flat_map(|l| [Scales::Nominal, Scales::choices().next().unwrap()].map(move |s| (*l, s)))
        {
            let steps = steps(layers, scales);
            let tasks = schedule(&steps);
            let plan = |limit| Spill::plan(&steps, &tasks, size, |_| 1, limit);
            let all = peak(&steps, &tasks, size, |_| 1);
            let TooLow { needed } = plan(0).unwrap_err();
            assert!(needed < all);
            assert_eq!(plan(needed - 1), Err(TooLow { needed }));
            for limit in [needed, (3 * needed + all) / 4, all] {
                let spill = plan(limit).unwrap();
                assert_eq!(spill.moves.len(), tasks.len() + 1);
                follow(&steps, &tasks, &spill, limit);
                assert_eq!(spill.written_bytes == 0, limit == all);
            }
        }
    }
}
