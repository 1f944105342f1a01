//! Which device trains, and the two settings without which a CPU trains at half its speed.

use half::bf16;
use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Once;
use tch::{Cuda, Device, Kind, Tensor};

/// The device that a user asks for, in `BAM_DEVICE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU if one can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU; no GPU library is even looked for.
    Cpu,
    /// A GPU, or an error.
    Cuda,
}

/// Why no device could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("BAM_DEVICE is {0:?}, must be auto, cpu or cuda")]
    Unknown(String),
    /// A GPU was asked for and none can be used.
    #[error("BAM_DEVICE=cuda, but no GPU can be used: {0}")]
    NoGpu(String),
    /// Several machines were given at once, each of which would train the same model.
    #[error(
        "this trainer computes on one machine, and was started on {0} at once (TPU_WORKER_HOSTNAMES): name an image with a \
         trainer for such a slice in compute.image, or take a slice of one host"
    )]
    SeveralHosts(usize),
}

impl FromStr for Wanted {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(DeviceError::Unknown(other.to_owned())),
        }
    }
}

/// A device, and why it is that one.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The device.
    pub device: Device,
    /// One sentence for the log.
    pub why: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = if self.device.is_cuda() { "cuda" } else { "cpu" };
        write!(to, "{device}: {}", self.why)
    }
}

/// Refuses to be one of several hosts of a slice; `hosts` are their names with commas between them, or nothing.
///
/// # Errors
/// If there are several.
pub fn alone(hosts: &str) -> Result<(), DeviceError> {
    match hosts.split(',').count() {
        ..=1 => Ok(()),
        hosts => Err(DeviceError::SeveralHosts(hosts)),
    }
}

/// Chooses the device. To be called before anything else asks libtorch for a GPU: the program links
/// only with the CPU's part of libtorch, and loads the GPU's part here if it can be found.
pub fn choose(wanted: Wanted) -> Result<Choice, DeviceError> {
    if wanted == Wanted::Cpu {
        return Ok(Choice { device: Device::Cpu, why: "BAM_DEVICE=cpu".into() });
    }
    let problem = match load_cuda() {
        Err(problem) => problem,
        Ok(library) if Cuda::device_count() > 0 => {
            let why = format!("{} GPU(s), {library}", Cuda::device_count());
            return Ok(Choice { device: Device::Cuda(0), why });
        }
        Ok(library) => format!("{library} finds no GPU (driver missing, or no device is visible)"),
    };
    match wanted {
        Wanted::Cuda => Err(DeviceError::NoGpu(problem)),
        _ => Ok(Choice { device: Device::Cpu, why: problem }),
    }
}

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Loads libtorch's GPU part and says where from. Its kernels register themselves while it loads.
fn load_cuda() -> Result<String, String> {
    let library = cuda_library()
        .ok_or_else(|| format!("{CUDA_LIBRARY} is neither beside libtorch_cpu.so nor in LD_LIBRARY_PATH"))?;
    let name = library.display().to_string();
    let path = CString::new(library.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the path is a NUL-terminated string. Loading runs the library's initialisers, which
    // only add to libtorch's registries; that is what a program linked with it would run at start.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        return Err(format!("{name} does not load: {}", dlerror()));
    }
    Ok(name)
}

fn dlerror() -> String {
    // SAFETY: called right after a failed dlopen on the same thread; the string is copied before
    // any further call could replace it.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "the loader gives no reason".into();
        }
        std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

fn cuda_library() -> Option<PathBuf> {
    let beside = folder_of_libtorch().into_iter();
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    beside.chain(listed).map(|folder| folder.join(CUDA_LIBRARY)).find(|path| path.is_file())
}

/// The folder from which libtorch_cpu.so was loaded.
fn folder_of_libtorch() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Path::new(&path[path.find('/')?..]).parent().map(Path::to_owned)
}

/// Settings of the process that make CPU work fast. To be called first thing in `main`.
///
/// Threads of libgomp wait for each other by spinning, which is fine on an idle machine and a disaster on a shared one:
/// a debug run beside two busy processes on 2 cores took 57 s, and 4.7 s with threads that sleep. The library reads the
/// setting while it is loaded, before `main`, so the program starts itself once more with it.
///
/// glibc gives memory of large tensors back to the system as soon as they are freed, and the next operation faults every
/// page in anew. After this it keeps them: a copy of 50 MB takes 4 ms instead of 46, a BERT-base step on 8 rows of 16
/// tokens 394 ms instead of 432, and the peak of memory stays the same.
pub fn cpu_settings() {
    sleep_while_waiting();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

#[cfg(target_os = "linux")]
fn sleep_while_waiting() {
    use std::os::unix::process::CommandExt;
    let setting = "OMP_WAIT_POLICY";
    if [setting, "GOMP_SPINCOUNT"].iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    again.arg0(arguments.next().unwrap_or_default()).args(arguments).env(setting, "PASSIVE");
    // It returns only if it failed, and then the program is merely slow on a busy machine.
    let _ = again.exec();
}

#[cfg(not(target_os = "linux"))]
fn sleep_while_waiting() {}

/// The number of threads of libtorch and of this program's own kernels. To be called once, before
/// any tensor work.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
    // Operations run one after the other here, so a second pool would only wait. libtorch refuses
    // to be told twice.
    static INTEROP: Once = Once::new();
    INTEROP.call_once(|| tch::set_num_interop_threads(1));
}

/// The vector instructions that libtorch's CPU kernels use on this machine. Bit-equality holds for one kind.
pub fn instruction_set() -> String {
    // It is what libtorch itself decides by: the processor's best, unless the environment says less.
    std::env::var("ATEN_CPU_CAPABILITY").unwrap_or_else(|_| best_instruction_set().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn best_instruction_set() -> &'static str {
    match (std::is_x86_feature_detected!("avx512f"), std::is_x86_feature_detected!("avx2")) {
        (true, _) => "avx512",
        (false, true) => "avx2",
        (false, false) => "default",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best_instruction_set() -> &'static str {
    std::env::consts::ARCH
}

/// MKL asks the program itself for this before it picks its kernels, and takes a slow path on processors that are not
/// Intel's unless the answer is 1. It works only from the executable's dynamic symbol table, where the build script puts
/// it. Measured on one core of an AMD EPYC with AVX-512: a product of two 2048 x 2048 matrices takes 71 ms instead of
/// 165, a training step of MiniLM's size (6 layers of 384) on 32 rows of 64 tokens 0.61 s instead of 1.25.
#[unsafe(no_mangle)]
pub extern "C" fn mkl_serv_intel_cpu_true() -> libc::c_int {
    1
}

/// Elements whose memory this program reads and writes itself. Not tch's `Element`, for which bf16 is a `Kind::Half`.
///
/// # Safety
/// A tensor of this kind holds such elements.
pub(crate) unsafe trait Plain: Copy + Send + Sync {
    const KIND: Kind;
}

// SAFETY: `Kind::Float` is an IEEE 754 number of 32 bits.
unsafe impl Plain for f32 {
    const KIND: Kind = Kind::Float;
}

// SAFETY: `Kind::BFloat16` is the upper half of one.
unsafe impl Plain for bf16 {
    const KIND: Kind = Kind::BFloat16;
}

/// A CPU tensor's elements.
///
/// # Safety
/// Nothing may write to the tensor's memory while the slice lives.
///
/// # Panics
/// If it is not a contiguous f32 tensor on the CPU.
pub(crate) unsafe fn floats(tensor: &Tensor) -> &[f32] {
    check_plain::<f32>(tensor);
    match tensor.numel() {
        // An empty tensor has no memory, and a slice must not begin at null.
        0 => &[],
        // SAFETY: checked above to be that many f32 in a row; the borrow keeps them alive.
        elements => unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), elements) },
    }
}

/// A CPU tensor's elements, to overwrite them.
///
/// # Safety
/// Nothing else may read or write the tensor's memory while the slice lives; a tensor can share it
/// with others.
///
/// # Panics
/// If it is not a contiguous tensor of `T` on the CPU.
pub(crate) unsafe fn elements_mut<T: Plain>(tensor: &mut Tensor) -> &mut [T] {
    check_plain::<T>(tensor);
    match tensor.numel() {
        0 => &mut [],
        // SAFETY: as above with `T`, and the caller promises that no one else uses the memory.
        elements => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), elements) },
    }
}

fn check_plain<T: Plain>(tensor: &Tensor) {
    let plain = tensor.device() == Device::Cpu && tensor.kind() == T::KIND && tensor.is_contiguous();
    assert!(plain, "not a contiguous tensor of {:?} on the CPU: {tensor:?}", T::KIND);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_asked_for_by_name() {
        assert_eq!("".parse::<Wanted>().unwrap(), Wanted::Auto);
        assert_eq!("cpu".parse::<Wanted>().unwrap(), Wanted::Cpu);
        assert_eq!("cuda".parse::<Wanted>().unwrap(), Wanted::Cuda);
        assert!("tpu".parse::<Wanted>().unwrap_err().to_string().contains("tpu"));
    }

    #[test]
    fn without_a_gpu_the_cpu_is_chosen_and_the_reason_told() {
        if Cuda::is_available() {
            return;
        }
        let choice = choose(Wanted::Auto).unwrap();
        assert_eq!(choice.device, Device::Cpu);
        assert!(choice.why.contains(CUDA_LIBRARY), "{}", choice.why);
        assert!(choose(Wanted::Cuda).unwrap_err().to_string().contains(CUDA_LIBRARY));
    }

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        let _ = Tensor::from(1.0);
        assert!(folder_of_libtorch().unwrap().join("libtorch_cpu.so").is_file());
    }
}
