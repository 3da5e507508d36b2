//! The memory allocator.
//!
//! A server under load takes apart and writes JSON all the time, in small pieces and on every thread.
//! With the C library's allocator that was a third of its processor time; with jemalloc the same
//! work took a quarter less, and an idle server holds no more.

/// Serves every Rust allocation; what is written in C keeps its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A text that ends with a zero byte, as C reads it.
#[repr(transparent)]
pub(crate) struct Settings(*const u8);

#[allow(unsafe_code, reason = "the text behind the pointer is constant, so that any thread may read it")]
// SAFETY: see above; nothing writes to it.
unsafe impl Sync for Settings {}

/// An arena for each processor instead of four, and what is freed goes back to the system within a
/// second or so, by a thread that does nothing else.
/// <https://jemalloc.net/jemalloc.3.html#tuning>
const SETTINGS: &[u8] = b"percpu_arena:percpu,background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

#[allow(unsafe_code, reason = "jemalloc reads its settings from a symbol of this name before the first allocation")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static MALLOC_CONF: Settings = Settings(SETTINGS.as_ptr());
