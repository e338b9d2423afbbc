//! Atomics. Every operation is a point at which others may go first, and takes effect at once for everybody.

use std::sync::atomic;

pub use std::sync::atomic::Ordering;

use crate::execution::point;

/// A fence orders nothing that was not ordered already; it is a point all the same.
#[track_caller]
pub fn fence(_ordering: Ordering) {
    point("fence");
}

macro_rules! integer {
    ($($name:ident: $number:ty,)*) => { $(
        /// An integer that several tasks change.
        #[derive(Debug, Default)]
        pub struct $name(atomic::$name);

        impl $name {
            /// An atomic with this value.
            pub const fn new(value: $number) -> $name {
                $name(atomic::$name::new(value))
            }

            /// The value, at no point.
            #[allow(dead_code, reason = "only the futex looks without a point")]
            pub(crate) fn now(&self) -> $number {
                self.0.load(Ordering::SeqCst)
            }

            /// The value.
            #[track_caller]
            pub fn load(&self, _ordering: Ordering) -> $number {
                point("load");
                self.0.load(Ordering::SeqCst)
            }

            /// Sets the value.
            #[track_caller]
            pub fn store(&self, value: $number, _ordering: Ordering) {
                point("store");
                self.0.store(value, Ordering::SeqCst);
            }

            /// Sets the value and returns what it was.
            #[track_caller]
            pub fn swap(&self, value: $number, _ordering: Ordering) -> $number {
                point("swap");
                self.0.swap(value, Ordering::SeqCst)
            }

            /// Adds and returns what the value was.
            #[track_caller]
            pub fn fetch_add(&self, value: $number, _ordering: Ordering) -> $number {
                point("add");
                self.0.fetch_add(value, Ordering::SeqCst)
            }

            /// Subtracts and returns what the value was.
            #[track_caller]
            pub fn fetch_sub(&self, value: $number, _ordering: Ordering) -> $number {
                point("subtract");
                self.0.fetch_sub(value, Ordering::SeqCst)
            }

            /// Raises the value to `value` if it is lower, and returns what it was.
            #[track_caller]
            pub fn fetch_max(&self, value: $number, _ordering: Ordering) -> $number {
                point("raise");
                self.0.fetch_max(value, Ordering::SeqCst)
            }

            /// Sets the value to `new` if it is `current`.
            ///
            /// # Errors
            ///
            /// What it is instead.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                _success: Ordering,
                _failure: Ordering,
            ) -> Result<$number, $number> {
                point("exchange");
                self.0.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
            }
        }
    )* };
}

integer! {
    AtomicU32: u32,
    AtomicU64: u64,
    AtomicUsize: usize,
}

/// A flag that several tasks change.
#[derive(Debug, Default)]
pub struct AtomicBool(atomic::AtomicBool);

impl AtomicBool {
    /// A flag with this value.
    pub const fn new(value: bool) -> AtomicBool {
        AtomicBool(atomic::AtomicBool::new(value))
    }

    /// The value.
    #[track_caller]
    pub fn load(&self, _ordering: Ordering) -> bool {
        point("load");
        self.0.load(Ordering::SeqCst)
    }

    /// Sets the value.
    #[track_caller]
    pub fn store(&self, value: bool, _ordering: Ordering) {
        point("store");
        self.0.store(value, Ordering::SeqCst);
    }

    /// Sets the value and returns what it was.
    #[track_caller]
    pub fn swap(&self, value: bool, _ordering: Ordering) -> bool {
        point("swap");
        self.0.swap(value, Ordering::SeqCst)
    }
}
