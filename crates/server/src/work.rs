//! Who waits for work, and who is woken when there is some.
//!
//! A job that comes into a queue wakes one agent that waits for that queue, not all of them. Whoever was woken and leaves something in the queue (because it took
//! nothing, or because more came) wakes the next, until each has looked once since the last news: so nothing waits beside an idle agent that may take it, and
//! a thousand idle agents cost no more than one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bailiwick_api::{AgentId, QueueId};
use tokio::sync::{Notify, watch};

pub struct Work {
    everyone: watch::Sender<u64>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    queues: HashMap<QueueId, OfQueue>,
    agents: HashMap<AgentId, Vec<Arc<Poll>>>,
}

/// Those who wait for one queue, each with the number of the news at which it came or looked last; whoever has waited longest is first.
#[derive(Default)]
struct OfQueue {
    news: u64,
    polls: VecDeque<(Arc<Poll>, u64)>,
}

struct Poll {
    agent: AgentId,
    woken: Notify,
    /// Why it was woken, and has not looked since.
    queues: Mutex<Vec<QueueId>>,
}

impl Poll {
    fn wake_for(&self, queue: QueueId) {
        let mut queues = self.queues.lock().expect("no panic while the lock is held");
        if !queues.contains(&queue) {
            queues.push(queue);
        }
        self.woken.notify_one();
    }

    fn take(&self) -> Vec<QueueId> {
        std::mem::take(&mut self.queues.lock().expect("no panic while the lock is held"))
    }
}

impl OfQueue {
    /// The one that has waited longest, if it has not looked since the last news.
    fn wake_next(&mut self, queue: QueueId) {
        if self.polls.front().is_some_and(|(_, seen)| *seen < self.news)
            && let Some((poll, _)) = self.polls.pop_front()
        {
            poll.wake_for(queue);
        }
    }
}

impl Default for Work {
    fn default() -> Work {
        Work {
            everyone: watch::channel(0).0,
            waiting: Mutex::default(),
        }
    }
}

impl Work {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no panic while the lock is held")
    }

    /// Who may take what may have changed.
    pub fn wake_everyone(&self) {
        self.everyone.send_modify(|count| *count += 1);
    }

    /// There is something in a queue, or room for more to run.
    pub fn wake_queue(&self, queue: QueueId) {
        let mut waiting = self.waiting();
        let of_queue = waiting.queues.entry(queue).or_default();
        of_queue.news += 1;
        of_queue.wake_next(queue);
    }

    /// There is something to tell this agent.
    pub fn wake_agent(&self, agent: AgentId) {
        let waiting = self.waiting();
        let polls = waiting.agents.get(&agent).into_iter().flatten();
        polls.for_each(|poll| poll.woken.notify_one());
    }

    /// Somebody waits from now on: whatever comes after this wakes, also while it looks. Of no queue where it takes no work.
    pub fn join(&self, agent: AgentId, queues: Vec<QueueId>) -> Turn<'_> {
        let poll = Arc::new(Poll {
            agent,
            woken: Notify::new(),
            queues: Mutex::default(),
        });
        let mut waiting = self.waiting();
        waiting.agents.entry(agent).or_default().push(poll.clone());
        for queue in &queues {
            let of_queue = waiting.queues.entry(*queue).or_default();
            let news = of_queue.news;
            of_queue.polls.push_back((poll.clone(), news));
        }
        Turn {
            work: self,
            everyone: self.everyone.subscribe(),
            poll,
            queues,
        }
    }

    /// The queues that somebody waits for here.
    pub fn waited_for(&self) -> Vec<QueueId> {
        let waiting = self.waiting();
        let queues = waiting.queues.iter();
        queues
            .filter(|(_, of_queue)| !of_queue.polls.is_empty())
            .map(|(queue, _)| *queue)
            .collect()
    }
}

/// One poll among those who wait.
pub struct Turn<'a> {
    work: &'a Work,
    everyone: watch::Receiver<u64>,
    poll: Arc<Poll>,
    queues: Vec<QueueId>,
}

impl<'a> Turn<'a> {
    /// Until it is woken; gives what it owes the others, should it leave something.
    pub async fn woken(&mut self) -> Owed<'a> {
        tokio::select! {
            _ = self.poll.woken.notified() => {}
            _ = self.everyone.changed() => {}
        }
        self.look()
    }

    /// It looks now, whatever for: goes to the end of the line, and what it was woken for is its to pass on.
    pub fn look(&self) -> Owed<'a> {
        let owed = self.poll.take();
        let mut waiting = self.work.waiting();
        for queue in &owed {
            let of_queue = waiting.queues.entry(*queue).or_default();
            // It may still be there: an agent can be woken for a queue by two.
            of_queue.polls.retain(|(poll, _)| !Arc::ptr_eq(poll, &self.poll));
            let news = of_queue.news;
            of_queue.polls.push_back((self.poll.clone(), news));
        }
        Owed {
            work: self.work,
            queues: owed,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.work.waiting();
        for queue in &self.queues {
            if let Some(of_queue) = waiting.queues.get_mut(queue) {
                of_queue.polls.retain(|(poll, _)| !Arc::ptr_eq(poll, &self.poll));
            }
        }
        if let Some(polls) = waiting.agents.get_mut(&self.poll.agent) {
            polls.retain(|poll| !Arc::ptr_eq(poll, &self.poll));
            if polls.is_empty() {
                waiting.agents.remove(&self.poll.agent);
            }
        }
        // Woken, and gone before it looked.
        for queue in self.poll.take() {
            waiting.queues.entry(queue).or_default().wake_next(queue);
        }
    }
}

/// Queues for which somebody was woken. Dropped, the next in each is woken, unless it was [`Owed::emptied`].
pub struct Owed<'a> {
    work: &'a Work,
    pub queues: Vec<QueueId>,
}

impl Owed<'_> {
    /// Nothing waits in this queue any more.
    pub fn emptied(&mut self, queue: QueueId) {
        self.queues.retain(|one| *one != queue);
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.queues.is_empty() {
            return;
        }
        let mut waiting = self.work.waiting();
        for queue in &self.queues {
            waiting.queues.entry(*queue).or_default().wake_next(*queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const QUEUE: QueueId = QueueId(1);

    async fn is_woken<'a>(turn: &mut Turn<'a>) -> Option<Owed<'a>> {
        tokio::time::timeout(Duration::from_millis(20), turn.woken()).await.ok()
    }

    #[tokio::test]
    async fn a_job_wakes_one_and_what_is_left_wakes_the_next_once() {
        let work = Work::default();
        let mut turns: Vec<Turn> = (1..=3).map(|id| work.join(AgentId(id), vec![QUEUE])).collect();
        let mut other = work.join(AgentId(9), vec![QueueId(2)]);
        work.wake_queue(QUEUE);
        let mut owed = is_woken(&mut turns[0])
            .await
            .expect("the one that waited longest is woken");
        assert!(is_woken(&mut turns[1]).await.is_none() && is_woken(&mut other).await.is_none());
        owed.emptied(QUEUE);
        drop(owed);
        assert!(is_woken(&mut turns[1]).await.is_none(), "nothing was left");
        // Each leaves it: all look once, and then it rests.
        work.wake_queue(QUEUE);
        for at in [1, 2, 0] {
            drop(is_woken(&mut turns[at]).await.expect("each looks once"));
        }
        for turn in &mut turns {
            assert!(is_woken(turn).await.is_none(), "nobody looks twice at the same");
        }
    }

    #[tokio::test]
    async fn who_goes_before_looking_passes_it_on() {
        let work = Work::default();
        let first = work.join(AgentId(1), vec![QUEUE]);
        let mut second = work.join(AgentId(2), vec![QUEUE]);
        work.wake_queue(QUEUE);
        drop(first);
        assert!(is_woken(&mut second).await.is_some());
        // And who goes while looking.
        let mut third = work.join(AgentId(3), vec![QUEUE]);
        work.wake_queue(QUEUE);
        let owed = match is_woken(&mut third).await {
            Some(owed) => owed,
            None => is_woken(&mut second).await.expect("one of the two is woken"),
        };
        drop(owed);
        assert!(is_woken(&mut second).await.is_some() || is_woken(&mut third).await.is_some());
    }

    #[tokio::test]
    async fn what_comes_during_a_look_is_not_missed() {
        let work = Work::default();
        let mut only = work.join(AgentId(1), vec![QUEUE]);
        work.wake_queue(QUEUE);
        let owed = is_woken(&mut only).await.unwrap();
        work.wake_queue(QUEUE);
        drop(owed);
        assert!(is_woken(&mut only).await.is_some());
        work.wake_agent(AgentId(1));
        assert!(is_woken(&mut only).await.is_some());
        work.wake_everyone();
        assert!(is_woken(&mut only).await.is_some_and(|owed| owed.queues.is_empty()));
        assert!(is_woken(&mut only).await.is_none());
        drop(only);
        assert!(work.waited_for().is_empty());
    }
}
