//! Waking up when files change, without looking every few seconds.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

struct Handle(Inotify);

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// One inotify instance for the whole agent: a machine has few of them.
#[derive(Clone)]
pub struct Watch {
    handle: Arc<AsyncFd<Handle>>,
    woken: Arc<Mutex<HashMap<WatchDescriptor, Arc<Notify>>>>,
}

impl Watch {
    /// Within a tokio runtime.
    pub fn new() -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the handle owns its descriptor and keeps it for as long as it lives.
        let handle = unsafe { AsyncFd::register(Handle(inotify)) };
        let watch = Watch {
            handle: Arc::new(handle.map_err(io::Error::from)?),
            woken: Arc::default(),
        };
        tokio::spawn(watch.clone().run());
        Ok(watch)
    }

    /// Wakes `who` when a file in `dir` is made, renamed or (with `writes`) written, until the directory is gone.
    pub fn add(&self, dir: &Path, writes: bool, who: &Arc<Notify>) -> io::Result<()> {
        let mut what = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
        if writes {
            what |= AddWatchFlags::IN_MODIFY;
        }
        // Held while the watch is added: no event of it can be lost before it has its entry.
        let mut woken = self.woken.lock().expect("no holder of this lock panics");
        let descriptor = self.handle.get_ref().0.add_watch(dir, what)?;
        woken.insert(descriptor, who.clone());
        Ok(())
    }

    async fn run(self) {
        loop {
            let Ok(mut ready) = self.handle.readable().await else {
                return;
            };
            match self.handle.get_ref().0.read_events() {
                Ok(events) => {
                    let mut woken = self.woken.lock().expect("no holder of this lock panics");
                    for event in events {
                        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                            woken.values().for_each(|who| who.notify_one());
                        } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                            woken.remove(&event.wd);
                        } else if let Some(who) = woken.get(&event.wd) {
                            who.notify_one();
                        }
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(why) => {
                    tracing::error!(why = why.desc(), "changes of files are no longer seen");
                    return;
                }
            }
        }
    }
}

/// Waits for the end of a process that need not be a child.
pub struct Process(AsyncFd<OwnedFd>);

impl Process {
    /// `None` when there is no such process.
    pub fn open(pid: i32) -> io::Result<Option<Process>> {
        use std::os::fd::FromRawFd;
        let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return match Errno::last() {
                Errno::ESRCH => Ok(None),
                why => Err(why.into()),
            };
        }
        // SAFETY: just made, nobody else's, and kept for as long as it is registered.
        let fd = unsafe { AsyncFd::register(OwnedFd::from_raw_fd(fd as RawFd)) };
        Ok(Some(Process(fd.map_err(io::Error::from)?)))
    }

    pub async fn ended(&self) {
        // Stays readable for good once the process has ended.
        if let Ok(mut ready) = self.0.readable().await {
            ready.retain_ready();
        }
    }
}
