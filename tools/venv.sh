# Sourced by the other tools: `ensure_venv EXTRA...` makes .venv and installs the package with its
# extras, editable. Nothing is installed again while pyproject.toml is the one installed last.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
stamp=$venv/.installed

say() { printf '%s\n' "$*" >&2; }

make_venv() {
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    say "python3 is $(python3 -V 2>&1), and onnxsqueeze needs 3.10 or newer"
    return 1
  fi
  say "making .venv"
  if ! python3 -m venv "$venv"; then
    rm -rf "$venv"
    say "python3 has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
    return 1
  fi
}

is_installed() {
  local extra
  cmp -s "$root/pyproject.toml" "$stamp/pyproject.toml" || return 1
  for extra in "$@"; do
    [ -e "$stamp/extra-$extra" ] || return 1
  done
}

ensure_venv() {
  [ -x "$venv/bin/python" ] || make_venv || return 1
  is_installed "$@" && return 0
  local extras
  extras=$(IFS=, && printf '%s' "$*")
  say "installing onnxsqueeze[$extras] into .venv (once, a minute or two)"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check -e "$root[$extras]" || return 1
  cmp -s "$root/pyproject.toml" "$stamp/pyproject.toml" || rm -rf "$stamp"
  mkdir -p "$stamp"
  cp "$root/pyproject.toml" "$stamp/pyproject.toml"
  local extra
  for extra in "$@"; do : >"$stamp/extra-$extra"; done
}
