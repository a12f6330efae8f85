# What ./ops/up and ./ops/test share: finding and installing what is missing. Sourced, not run.

# A line that says what is being done.
step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }

# Ends with what went wrong and what to do.
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Installs Debian packages that are missing, if this user may.
debian_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || return 1
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    sudo=(sudo)
  fi
  step "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y --no-install-recommends "${missing[@]}" >&2 && return 0
  "${sudo[@]}" apt-get update >&2
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y --no-install-recommends "${missing[@]}" >&2
}

# A command that must be there, or the package that has it, or a hint.
need() {
  local command=$1 package=$2 hint=$3
  command -v "$command" >/dev/null && return 0
  debian_packages "$package" && command -v "$command" >/dev/null && return 0
  die "there is no $command ($hint)"
}

need_toolchains() {
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  command -v cargo >/dev/null || die "there is no cargo (install Rust $(rust_version) or newer with rustup, see rust-lang.org)"
  need cc gcc "install a C compiler"
  # librdkafka is built from source, with the system's OpenSSL.
  need c++ g++ "install a C++ compiler"
  need make make "install make"
  need pkg-config pkg-config "install pkg-config"
  pkg-config --exists libssl || debian_packages libssl-dev || die "there is no OpenSSL to build with (Debian: libssl-dev)"
  need node nodejs "install Node.js 20 or newer"
  need npm npm "install npm"
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

# Runs a command unless the files that it depends on are as they were when it last succeeded.
unless_unchanged() {
  local stamp=$1; shift
  local inputs=()
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  local now
  now=$(git ls-files -co --exclude-standard -- "${inputs[@]}" | LC_ALL=C sort | xargs -d '\n' sha256sum 2>/dev/null | sha256sum)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then return 0; fi
  "$@" && mkdir -p "$(dirname "$stamp")" && printf '%s\n' "$now" >"$stamp"
}

web_packages() { (cd edge/web && npm ci --no-audit --no-fund --loglevel=error >&2); }
web_build() { (cd edge/web && npm run --silent build >&2); }

# The web client in edge/web/dist.
build_web() {
  [ -d edge/web/node_modules ] || rm -f target/stamps/web-packages
  [ -f edge/web/dist/index.html ] || rm -f target/stamps/web-build
  unless_unchanged target/stamps/web-packages edge/web/package.json edge/web/package-lock.json -- web_packages ||
    die "npm could not fetch the web client's packages (is the npm registry reachable?)"
  unless_unchanged target/stamps/web-build edge/web -- web_build || die "the web client does not build"
}
