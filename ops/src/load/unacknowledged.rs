//! What a client has to send and has not been told of yet, and when it tries again. A server that refuses for the moment is
//! left alone for a while, longer each time; then one message goes ahead, and the others follow when that is taken.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{device::Job, plan::SplitMix};

/// How long the first pause lasts, where the server does not say.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest, where the server does not ask for more.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// In the order in which they were to be sent.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    waiting: VecDeque<Waiting>,
    pause: Option<Pause>,
    /// In a row.
    refusals: u32,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    /// The request that carries it, if one does.
    request: Option<u32>,
}

/// Nothing is sent but what finds out whether the server takes it again.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// The request that went ahead.
    probe: Option<u32>,
}

impl Unacknowledged {
    /// One more. Whether it is to be sent now: else it comes in its turn.
    pub(super) fn add(&mut self, job: Job) -> bool {
        self.waiting.push_back(Waiting { job, request: None });
        self.pause.is_none()
    }

    /// This request carries it.
    pub(super) fn carried(&mut self, job: Job, request: u32) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.job.index == job.index) {
            waiting.request = Some(request);
        }
        if let Some(pause) = &mut self.pause {
            pause.probe = Some(request);
        }
    }

    /// The server has taken what this request carries: the verdict came, or comes later.
    pub(super) fn taken(&mut self, request: u32) {
        if self.place(request).is_some() {
            self.end_pause();
        }
    }

    /// What this request carries is decided.
    pub(super) fn decided(&mut self, request: u32) -> Option<Job> {
        let place = self.place(request)?;
        self.remove(place)
    }

    /// This message is decided, whatever carried it.
    pub(super) fn message_decided(&mut self, index: u64) -> Option<Job> {
        let place = self.waiting.iter().position(|waiting| waiting.job.index == index)?;
        self.remove(place)
    }

    /// The server refuses for now, and may say for how long. Whether anything waits for the reply to this request.
    pub(super) fn refused(
        &mut self,
        request: u32,
        retry_after: Option<Duration>,
        now: Instant,
        random: &mut SplitMix,
    ) -> bool {
        let Some(place) = self.place(request) else { return false };
        self.waiting[place].request = None;
        // What was under way when the pause began is refused for the same reason.
        if self.pause.is_some_and(|pause| pause.probe != Some(request)) {
            return true;
        }
        let half = PAUSE_MIN.saturating_mul(1 << self.refusals.min(16)).min(PAUSE_MAX) / 2;
        self.refusals = self.refusals.saturating_add(1);
        // Clients that were refused together do not come back together.
        let millis = usize::try_from(half.as_millis()).unwrap_or(usize::MAX);
        let jitter = Duration::from_millis(random.below(millis.saturating_add(1)) as u64);
        let until = now + half.max(retry_after.unwrap_or_default()) + jitter;
        self.pause = Some(Pause { until, probe: None });
        true
    }

    /// When there is something to be sent, if nothing else happens.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        self.waiting.iter().any(|waiting| waiting.request.is_none()).then_some(())?;
        match self.pause {
            None => Some(now),
            Some(Pause { probe: Some(_), .. }) => None,
            Some(pause) => Some(pause.until),
        }
    }

    /// What is to be sent now.
    pub(super) fn due(&self, now: Instant) -> Vec<Job> {
        let most = match self.next_at(now) {
            Some(at) if at <= now && self.pause.is_some() => 1,
            Some(at) if at <= now => usize::MAX,
            _ => 0,
        };
        self.waiting.iter().filter(|waiting| waiting.request.is_none()).map(|waiting| waiting.job).take(most).collect()
    }

    /// The connection is another: everything is to be sent again, in the same order.
    pub(super) fn start_over(&mut self) {
        self.end_pause();
        self.waiting.iter_mut().for_each(|waiting| waiting.request = None);
    }

    fn place(&self, request: u32) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.request == Some(request))
    }

    fn remove(&mut self, place: usize) -> Option<Job> {
        self.end_pause();
        self.waiting.remove(place).map(|waiting| waiting.job)
    }

    fn end_pause(&mut self) {
        self.pause = None;
        self.refusals = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn job(index: u64) -> Job {
        Job { index, conversation: 0 }
    }

    fn indices(jobs: &[Job]) -> Vec<u64> {
        jobs.iter().map(|job| job.index).collect()
    }

    /// All that is due is sent, numbered from `request` on.
    fn send(unacknowledged: &mut Unacknowledged, now: Instant, mut request: u32) -> Vec<u64> {
        let due = unacknowledged.due(now);
        for job in &due {
            unacknowledged.carried(*job, request);
            request += 1;
        }
        indices(&due)
    }

    fn with_three(now: Instant) -> Unacknowledged {
        let mut unacknowledged = Unacknowledged::default();
        assert!((0..3).all(|index| unacknowledged.add(job(index))));
        assert_eq!(send(&mut unacknowledged, now, 1), [0, 1, 2]);
        unacknowledged
    }

    #[tokio::test(start_paused = true)]
    async fn one_goes_ahead_and_the_others_follow_when_it_is_taken() {
        let (now, mut random) = (Instant::now(), SplitMix(1));
        let mut unacknowledged = with_three(now);
        assert!((1..=3).all(|request| unacknowledged.refused(request, None, now, &mut random)));
        assert!(!unacknowledged.add(job(3)), "nothing goes out in a pause");
        assert!(send(&mut unacknowledged, now, 4).is_empty());
        let later = unacknowledged.next_at(now).unwrap();
        assert!((now + PAUSE_MIN / 2..=now + PAUSE_MIN).contains(&later), "three refusals at once are one");
        assert_eq!(send(&mut unacknowledged, later, 4), [0]);
        assert_eq!(unacknowledged.next_at(later), None, "the answer decides");
        assert_eq!(unacknowledged.decided(4).map(|job| job.index), Some(0));
        assert_eq!(send(&mut unacknowledged, later, 5), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_limit_and_a_server_may_ask_for_more() {
        let (mut now, mut random) = (Instant::now(), SplitMix(1));
        let mut unacknowledged = with_three(now);
        let mut longest = Duration::ZERO;
        let mut tries = 0;
        let end = now + Duration::from_secs(60);
        let mut request = 3;
        while now < end {
            assert!(unacknowledged.refused(request, None, now, &mut random));
            let next = unacknowledged.next_at(now).unwrap();
            longest = longest.max(next - now);
            (now, tries, request) = (next, tries + 1, request + 1);
            assert_eq!(send(&mut unacknowledged, now, request).len(), 1);
        }
        assert!(tries < 25 && longest > PAUSE_MAX / 2 && longest <= PAUSE_MAX, "{tries} tries, {longest:?}");
        assert!(unacknowledged.refused(request, Some(Duration::from_secs(9)), now, &mut random));
        let asked_for = now + Duration::from_secs(9);
        let next = unacknowledged.next_at(now).unwrap();
        assert!((asked_for..=asked_for + PAUSE_MAX).contains(&next), "{:?}", next - now);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_decided_elsewhere_ends_the_pause() {
        let (now, mut random) = (Instant::now(), SplitMix(1));
        let mut unacknowledged = with_three(now);
        assert!(unacknowledged.refused(2, None, now, &mut random));
        unacknowledged.taken(1);
        assert_eq!(send(&mut unacknowledged, now, 4), [1]);
        assert!(unacknowledged.refused(3, None, now, &mut random));
        assert_eq!(unacknowledged.message_decided(2).map(|job| job.index), Some(2));
        assert_eq!(unacknowledged.next_at(now), None, "the two others are under way");
        unacknowledged.start_over();
        assert_eq!(send(&mut unacknowledged, now, 5), [0, 1]);
    }
}
