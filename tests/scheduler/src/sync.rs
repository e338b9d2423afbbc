//! Locks with the interface of `parking_lot`, and the cell of `std` that is set once.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use crate::execution::{Status, current, point};

/// Waits on `on` until somebody wakes those who do. Outside of an execution it only lets others run.
#[track_caller]
fn wait_on(on: usize, doing: &'static str) {
    match current() {
        Some(context) => {
            let status = Status::Waiting { on, until: None };
            context.execution.pass(context.task, status, doing, Location::caller());
        }
        None => std::thread::yield_now(),
    }
}

fn wake(on: usize, count: usize) {
    if let Some(context) = current() {
        context.execution.lock().wake(on, count);
    }
}

/// Tries until it succeeds, waiting on `on` in between.
#[track_caller]
fn acquire<T>(on: usize, doing: &'static str, attempt: impl Fn() -> Option<T>) -> T {
    point(doing);
    loop {
        match attempt() {
            Some(guard) => return guard,
            None => wait_on(on, doing),
        }
    }
}

fn address<T: ?Sized>(object: &T) -> usize {
    std::ptr::from_ref(object).cast::<()>() as usize
}

/// A lock that one task holds at a time.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    inner: parking_lot::Mutex<T>,
}

/// Holds a [`Mutex`] until it is dropped.
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// `None` while a condition variable waits with it.
    inner: Option<parking_lot::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// A free lock.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { inner: parking_lot::Mutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let inner = acquire(address(self), "lock", || self.inner.try_lock());
        MutexGuard { mutex: self, inner: Some(inner) }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_deref().expect("held")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_deref_mut().expect("held")
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.inner.take());
        wake(address(self.mutex), usize::MAX);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Where tasks wait for a condition that a [`Mutex`] guards.
#[derive(Debug, Default)]
pub struct Condvar {
    /// Gives it an address of its own.
    _place: u8,
}

impl Condvar {
    /// A condition variable that nobody waits on.
    pub const fn new() -> Condvar {
        Condvar { _place: 0 }
    }

    /// Gives the lock up and waits until somebody notifies; takes it again then. Outside of an execution it comes back unasked.
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        let mutex = guard.mutex;
        point("wait");
        drop(guard.inner.take());
        wake(address(mutex), usize::MAX);
        wait_on(address(self), "wait");
        guard.inner = Some(acquire(address(mutex), "lock", || mutex.inner.try_lock()));
    }

    /// Wakes one who waits. Returns whether there was anybody, which is not known: `true`.
    #[track_caller]
    pub fn notify_one(&self) -> bool {
        point("notify");
        wake(address(self), 1);
        true
    }

    /// Wakes all who wait.
    #[track_caller]
    pub fn notify_all(&self) -> usize {
        point("notify");
        wake(address(self), usize::MAX);
        0
    }
}

/// A lock that one task holds to change and several to look.
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    inner: parking_lot::RwLock<T>,
}

/// Holds a [`RwLock`] to look.
pub struct RwLockReadGuard<'a, T: ?Sized> {
    on: usize,
    inner: Option<parking_lot::RwLockReadGuard<'a, T>>,
}

/// Holds a [`RwLock`] to change.
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    on: usize,
    inner: Option<parking_lot::RwLockWriteGuard<'a, T>>,
}

impl<T> RwLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { inner: parking_lot::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock to look.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let on = address(self);
        RwLockReadGuard { on, inner: Some(acquire(on, "read", || self.inner.try_read())) }
    }

    /// Takes the lock to change.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let on = address(self);
        RwLockWriteGuard { on, inner: Some(acquire(on, "write", || self.inner.try_write())) }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_deref().expect("held")
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_deref().expect("held")
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_deref_mut().expect("held")
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.inner.take());
        wake(self.on, usize::MAX);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.inner.take());
        wake(self.on, usize::MAX);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A cell that is set once.
#[derive(Debug, Default)]
pub struct OnceLock<T> {
    inner: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// An empty cell.
    pub const fn new() -> OnceLock<T> {
        OnceLock { inner: std::sync::OnceLock::new() }
    }

    /// The content, once there is one.
    #[track_caller]
    pub fn get(&self) -> Option<&T> {
        point("get");
        self.inner.get()
    }

    /// Sets the content.
    ///
    /// # Errors
    ///
    /// The value, if there is a content already.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        point("set");
        self.inner.set(value)
    }
}
