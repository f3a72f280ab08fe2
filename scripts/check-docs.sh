#!/usr/bin/env bash
# Checks that every relative link in the Markdown files leads to a file that is there, and to a heading that it has; and that every direct dependency
# has its reason written down.
set -euo pipefail
cd "$(dirname "$0")/.."

# The anchors of a file, as they are made from headings: lower case, blanks to hyphens, no punctuation.
anchors() {
    awk '/^```/ { code = !code } !code && /^#+ /' "$1" | sed -E 's/^#+ +//; s/[`*]//g' | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}

bad=0
links=0
# shellcheck disable=SC2016 # backquotes of Markdown, not of the shell
while IFS= read -r file; do
    while IFS= read -r link; do
        [[ $link =~ ^(https?:|mailto:) ]] && continue
        links=$((links + 1))
        path=${link%%#*}
        target=$file
        [ -z "$path" ] || target=$(dirname "$file")/$path
        if [ ! -e "$target" ]; then
            echo "$file: $link leads nowhere" >&2
            bad=1
        elif [[ $link == *#* && $target == *.md ]] && ! anchors "$target" | grep -qxF -- "${link#*#}"; then
            echo "$file: $target has no heading #${link#*#}" >&2
            bad=1
        fi
    done < <(awk '/^ *```/ { code = !code; next } !code' "$file" | sed -E 's/`[^`]*`//g' | grep -oE '\]\([^) ]+\)' | sed -E 's/^\]\(//; s/\)$//')
done < <(git ls-files --cached --others --exclude-standard -- '*.md')

# Every direct dependency has its line.
while IFS= read -r crate; do
    grep -qF -- "\`$crate\`" docs/dependencies.md || {
        echo "docs/dependencies.md does not say why $crate is there" >&2
        bad=1
    }
done < <(awk '/^\[/ { on = $0 == "[workspace.dependencies]" } on && /^[a-z]/ && !/path = / { sub(/ *=.*/, ""); print }' Cargo.toml)

[ "$bad" = 0 ] && echo "$links relative links, all lead somewhere"
exit "$bad"
