//! The image that holds a pod's namespaces open: one program of some hundred bytes that waits.
//!
//! Registries ship it as `pause`. We need neither a registry nor a C compiler for it: its machine
//! code stands below beside its assembly source, and an ELF header is put in front. What it does:
//!
//! 1. blocks every signal, so that it can wait for them;
//! 2. ignores SIGCHLD, so that the kernel itself buries orphans when the pod shares its process
//!    namespace and this is its process 1;
//! 3. waits for signals and ends on SIGTERM or SIGINT.

use crate::image::oci;

/// The name under which containerd finds the image.
pub(crate) const REFERENCE: &str = "fermion.dev/pause:1";
/// The program's path in the image.
const PROGRAM: &str = "pause";

#[rustfmt::skip]
const CODE_X86_64: &[u8] = &[
    0x6a, 0xff,                         // push -1              all signals
    0x48, 0x89, 0xe6,                   // mov rsi, rsp
    0x31, 0xff,                         // xor edi, edi         SIG_BLOCK
    0x31, 0xd2,                         // xor edx, edx
    0x6a, 0x08, 0x41, 0x5a,             // push 8; pop r10      size of a signal set
    0x6a, 0x0e, 0x58,                   // push 14; pop rax     rt_sigprocmask
    0x0f, 0x05,                         // syscall
    0x52, 0x52, 0x52,                   // push rdx (3 times)   flags, restorer, mask: none
    0x6a, 0x01,                         // push 1               SIG_IGN
    0x48, 0x89, 0xe6,                   // mov rsi, rsp
    0x6a, 0x11, 0x5f,                   // push 17; pop rdi     SIGCHLD
    0x6a, 0x0d, 0x58,                   // push 13; pop rax     rt_sigaction
    0x0f, 0x05,                         // syscall
                                        // again:
    0x58,                               // pop rax
    0x6a, 0xff,                         // push -1              all signals
    0x48, 0x89, 0xe7,                   // mov rdi, rsp
    0x31, 0xf6,                         // xor esi, esi
    0x6a, 0x08, 0x41, 0x5a,             // push 8; pop r10
    0xb8, 0x80, 0x00, 0x00, 0x00,       // mov eax, 128         rt_sigtimedwait
    0x0f, 0x05,                         // syscall
    0x83, 0xf8, 0x0f,                   // cmp eax, 15          SIGTERM
    0x74, 0x05,                         // je out
    0x83, 0xf8, 0x02,                   // cmp eax, 2           SIGINT
    0x75, 0xe3,                         // jne again
                                        // out:
    0x31, 0xff,                         // xor edi, edi
    0x6a, 0x3c, 0x58,                   // push 60; pop rax     exit
    0x0f, 0x05,                         // syscall
];

#[rustfmt::skip]
const CODE_AARCH64: &[u32] = &[
    0x9280_0000,    // mov x0, #-1              all signals
    0xf81f_0fe0,    // str x0, [sp, #-16]!
    0xd280_0000,    // mov x0, #0               SIG_BLOCK
    0x9100_03e1,    // mov x1, sp
    0xd280_0002,    // mov x2, #0
    0xd280_0103,    // mov x3, #8               size of a signal set
    0xd280_10e8,    // mov x8, #135             rt_sigprocmask
    0xd400_0001,    // svc #0
    0xd100_83ff,    // sub sp, sp, #32
    0xd280_0024,    // mov x4, #1               SIG_IGN
    0xa900_7fe4,    // stp x4, xzr, [sp]
    0xa901_7fff,    // stp xzr, xzr, [sp, #16]
    0xd280_0220,    // mov x0, #17              SIGCHLD
    0x9100_03e1,    // mov x1, sp
    0xd280_0002,    // mov x2, #0
    0xd280_10c8,    // mov x8, #134             rt_sigaction
    0xd400_0001,    // svc #0
                    // again:
    0x9100_83e0,    // add x0, sp, #32          all signals
    0xd280_0001,    // mov x1, #0
    0xd280_0002,    // mov x2, #0
    0xd280_0103,    // mov x3, #8
    0xd280_1128,    // mov x8, #137             rt_sigtimedwait
    0xd400_0001,    // svc #0
    0xf100_3c1f,    // cmp x0, #15              SIGTERM
    0x5400_0060,    // b.eq out
    0xf100_081f,    // cmp x0, #2               SIGINT
    0x54ff_fee1,    // b.ne again
                    // out:
    0xd280_0000,    // mov x0, #0
    0xd280_0ba8,    // mov x8, #93              exit
    0xd400_0001,    // svc #0
];

/// The image, and its only layer.
pub(crate) fn image() -> Option<(oci::Image, Vec<u8>)> {
    let layer = layer(&program(std::env::consts::ARCH)?);
    let settings = oci::RunSettings { entrypoint: vec![format!("/{PROGRAM}")], ..Default::default() };
    let image = oci::Image::new(settings, vec![oci::describe_layer(&layer)]);
    Some((image, layer))
}

fn layer(program: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, PROGRAM, program).and_then(|()| archive.into_inner()).expect("writing to memory does not fail")
}

/// A static ELF program for this architecture, or nothing for one we have no code for.
fn program(architecture: &str) -> Option<Vec<u8>> {
    const LOAD_ADDRESS: u64 = 0x40_0000;
    const HEADER_BYTES: u16 = 64;
    const SEGMENT_BYTES: u16 = 56;
    const CODE_OFFSET: u64 = HEADER_BYTES as u64 + SEGMENT_BYTES as u64;
    let (machine, code): (u16, Vec<u8>) = match architecture {
        "x86_64" => (62, CODE_X86_64.to_vec()),
        "aarch64" => (183, CODE_AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect()),
        _ => return None,
    };
    let size = CODE_OFFSET + code.len() as u64;
    let mut elf = Vec::with_capacity(size as usize);
    // 64 bits, little endian, version 1, System V; then padding to 16 bytes.
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, machine] {
        elf.extend_from_slice(&half.to_le_bytes()); // executable; machine
    }
    elf.extend_from_slice(&1_u32.to_le_bytes()); // version
    for word in [LOAD_ADDRESS + CODE_OFFSET, u64::from(HEADER_BYTES), 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry; program headers; section headers
    }
    elf.extend_from_slice(&0_u32.to_le_bytes()); // flags
    for half in [HEADER_BYTES, SEGMENT_BYTES, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes()); // one segment, no sections
    }
    for half in [1_u32, 5] {
        elf.extend_from_slice(&half.to_le_bytes()); // PT_LOAD; readable and executable
    }
    for word in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1_0000] {
        elf.extend_from_slice(&word.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    debug_assert_eq!(elf.len() as u64, CODE_OFFSET);
    elf.extend_from_slice(&code);
    Some(elf)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn other_architectures_have_no_pause_program() {
        assert!(program("riscv64").is_none());
        assert!(program("aarch64").is_some());
    }

    /// Runs the very bytes: it must be waiting, not have crashed, and end well when told to.
    #[test]
    fn the_program_waits_until_it_is_told_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)
            .unwrap()
            .write_all(&program(std::env::consts::ARCH).expect("this architecture has one"))
            .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        // SIGCHLD is signal 17: bit 16 of the ignored set, which it sets just before it waits.
        loop {
            let text = std::fs::read_to_string(&status).unwrap();
            let ignored = text
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:"))
                .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
                .expect("the kernel tells it");
            if ignored & (1 << 16) != 0 {
                break;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!((ended.code(), ended.signal()), (Some(0), None));
    }
}
