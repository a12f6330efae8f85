//! What a run's questions and transitions have found, laid out for reading.
//!
//! Each recipient of the run is a *question*: where is this user? All questions for one user at one step are one
//! *lookup* in the dataflow, unless the answer is known from an earlier one.

/// What is known of where a user is. Four bytes, for there is one for each user and each question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whereabouts(u32);

impl Whereabouts {
    /// The user has no session.
    pub(super) const NOWHERE: Self = Self(u32::MAX);
    /// Only the dataflow can say.
    pub(super) const UNKNOWN: Self = Self(u32::MAX - 1);
    const IS_EDGE: u32 = 1 << 31;
    /// The first edge that cannot be told.
    pub(super) const EDGES_END: u32 = Self::UNKNOWN.0 & !Self::IS_EDGE;

    /// On this one edge.
    pub(super) fn edge(edge_id: u32) -> Self {
        Self(Self::IS_EDGE | edge_id)
    }

    /// Where that lookup says.
    pub(super) fn lookup(lookup: u32) -> Self {
        Self(lookup & !Self::IS_EDGE)
    }
}

/// A watcher whom a transition concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Watching {
    pub(super) transition: u32,
    pub(super) edge_id: u32,
    pub(super) session_id: u64,
}

/// What the dataflow gave, as it gave it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// (lookup, edge with a session of the user), in no particular order, no pair twice.
    pub(super) routes: Vec<(u32, u32)>,
    pub(super) watching: Vec<Watching>,
}

/// The answers of a run.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// For each question.
    pub(super) whereabouts: Vec<Whereabouts>,
    /// Where each lookup's edges begin; one more than there are lookups.
    starts: Vec<u32>,
    edges: Vec<u32>,
    /// Ascending.
    watching: Vec<Watching>,
}

impl Answers {
    /// Forgets the questions and answers of the last run.
    pub(super) fn clear(&mut self) {
        self.whereabouts.clear();
        self.watching.clear();
    }

    /// Sorts what was found: by lookup (counting: the lookups are dense), and by transition.
    pub(super) fn fill(&mut self, lookup_count: usize, found: &mut Found) {
        self.starts.clear();
        self.starts.resize(lookup_count + 1, 0);
        self.edges.clear();
        self.edges.resize(found.routes.len(), 0);
        for (lookup, _) in &found.routes {
            self.starts[*lookup as usize] += 1;
        }
        let mut end = 0;
        for start in &mut self.starts {
            end += *start;
            *start = end;
        }
        // Each lookup's place moves down from its end to its start as its edges are put in.
        for (lookup, edge_id) in found.routes.drain(..) {
            let place = &mut self.starts[lookup as usize];
            *place -= 1;
            self.edges[*place as usize] = edge_id;
        }
        self.watching.append(&mut found.watching);
        self.watching.sort_unstable();
    }

    /// Names each edge with a session of the user that the question was about. Says whether there is any.
    #[inline]
    pub(super) fn for_each_edge(&self, question: u32, mut each: impl FnMut(u32)) -> bool {
        let whereabouts = self.whereabouts[question as usize];
        if whereabouts == Whereabouts::NOWHERE {
            return false;
        }
        if whereabouts.0 & Whereabouts::IS_EDGE != 0 {
            each(whereabouts.0 & !Whereabouts::IS_EDGE);
            return true;
        }
        let edges = self.edges_of_lookup(whereabouts.0);
        edges.iter().for_each(|edge_id| each(*edge_id));
        !edges.is_empty()
    }

    /// The edges that a lookup found.
    pub(super) fn edges_of_lookup(&self, lookup: u32) -> &[u32] {
        let (start, end) = (self.starts[lookup as usize], self.starts[lookup as usize + 1]);
        &self.edges[start as usize..end as usize]
    }

    /// Those who watch the user of a transition, by edge and session.
    pub(super) fn watching(&self, transition: u32) -> &[Watching] {
        let start = self.watching.partition_point(|watching| watching.transition < transition);
        let count = self.watching[start..].partition_point(|watching| watching.transition == transition);
        &self.watching[start..start + count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_gets_its_edges() {
        let mut found = Found { routes: vec![(2, 7), (0, 5), (2, 6)], watching: Vec::new() };
        let (lookup, edge) = (Whereabouts::lookup, Whereabouts::edge);
        let whereabouts = vec![lookup(3), lookup(2), Whereabouts::NOWHERE, lookup(0), edge(0), edge(9)];
        let mut answers = Answers { whereabouts, ..Answers::default() };
        answers.fill(4, &mut found);
        let sorted = |question| {
            let mut edges = Vec::new();
            assert_eq!(answers.for_each_edge(question, |edge_id| edges.push(edge_id)), !edges.is_empty());
            edges.sort_unstable();
            edges
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(sorted), [vec![], vec![6, 7], vec![], vec![5], vec![0], vec![9]]);
    }

    #[test]
    fn each_transition_gets_its_watchers() {
        let watching = |transition, edge_id| Watching { transition, edge_id, session_id: 1 };
        let mut found = Found { routes: Vec::new(), watching: vec![watching(2, 1), watching(0, 3), watching(2, 0)] };
        let mut answers = Answers::default();
        answers.fill(0, &mut found);
        assert_eq!(answers.watching(0), [watching(0, 3)]);
        assert!(answers.watching(1).is_empty());
        assert_eq!(answers.watching(2), [watching(2, 0), watching(2, 1)]);
    }
}
