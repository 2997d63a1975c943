#!/bin/sh
# Makes certificates to try TLS with: right ones, and some that are wrong in the ways that happen. Needs openssl and nothing else.
#
#   certs/generate.sh [FOLDER]        default: certs/dev, which git ignores
#
# A second run keeps the two CAs and makes everything else anew, as a rotation does. Keys are ECDSA P-256 and not encrypted, but for the
# one whose name says so. For trials only: whoever reads the folder can sign certificates.
set -eu

folder=${1:-$(dirname "$0")/dev}
days=90
mkdir -p "$folder"
umask 077
work=$(mktemp -d "$folder/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT

quietly() {
    "$@" 2>"$work/said" || { cat "$work/said" >&2; exit 1; }
}

new_key() { # NAME
    quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"
}

# Where another process reads, a file is there whole or not at all.
place() { # NAME
    chmod 644 "$work/$1.crt"
    mv "$work/$1.key" "$folder/$1.key"
    mv "$work/$1.crt" "$folder/$1.crt"
}

authority() { # NAME SUBJECT
    [ ! -s "$folder/$1.key" ] || return 0
    new_key "$1"
    quietly openssl req -x509 -new -key "$work/$1.key" -subj "$2" -days 3650 -sha256 -out "$work/$1.crt" \
        -addext keyUsage=critical,keyCertSign,cRLSign
    place "$1"
}

# The dates can be set only by `openssl ca`, which wants a file to keep its books in.
certificate() { # NAME CA SUBJECT USAGE SANS SERIAL [START END]
    new_key "$1"
    quietly openssl req -new -key "$work/$1.key" -subj "$3" -out "$work/request"
    : >"$work/index"
    echo "$6" >"$work/serial"
    cat >"$work/ca.conf" <<CONF
[ca]
default_ca = books
[books]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = anything
unique_subject = no
x509_extensions = extensions
[anything]
organizationName = optional
commonName = supplied
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = $4
subjectAltName = $5
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONF
    dates="-days $days"
    [ $# -lt 8 ] || dates="-startdate $7 -enddate $8"
    # shellcheck disable=SC2086 # Dates are several words.
    quietly openssl ca -batch -notext -config "$work/ca.conf" -cert "$folder/$2.crt" -keyfile "$folder/$2.key" \
        $dates -in "$work/request" -out "$work/$1.crt"
    place "$1"
}

serial() {
    openssl rand -hex 8 | sed 's/^./1/'
}

authority ca "/O=Example/CN=Example CA"
authority other-ca "/O=Stranger/CN=Stranger CA"

here=DNS:localhost,DNS:outrigger,IP:127.0.0.1,IP:::1
certificate server ca "/O=Example/CN=localhost" serverAuth "$here" "$(serial)"
certificate server-other ca "/O=Example/CN=other.example" serverAuth "DNS:other.example,DNS:*.other.example" "$(serial)"
certificate server-wrong-san ca "/O=Example/CN=localhost" serverAuth DNS:elsewhere.example "$(serial)"
certificate server-expired ca "/O=Example/CN=localhost" serverAuth "$here" "$(serial)" 200101000000Z 210101000000Z
certificate upstream ca "/O=Example/CN=upstream" serverAuth "DNS:localhost,DNS:upstream.example,IP:127.0.0.1,IP:::1" "$(serial)"
certificate member ca "/O=Example/CN=outrigger" "serverAuth,clientAuth" DNS:outrigger "$(serial)"
certificate client ca "/O=Example/CN=client" clientAuth "DNS:client.example,URI:spiffe://example/client" 01
certificate client-twin ca "/O=Example/CN=twin" clientAuth "DNS:twin.example,URI:spiffe://example/twin" 01
certificate client-stranger other-ca "/O=Example/CN=client" clientAuth "DNS:client.example,URI:spiffe://example/client" 01
certificate client-expired ca "/O=Example/CN=client" clientAuth DNS:client.example "$(serial)" 200101000000Z 210101000000Z

openssl rand -hex 16 >"$folder/client-encrypted.passphrase"
quietly openssl pkcs8 -topk8 -v2 aes-256-cbc -in "$folder/client.key" -passout "file:$folder/client-encrypted.passphrase" \
    -out "$folder/client-encrypted.key"

cat <<EOT
In $folder, each NAME as NAME.crt and NAME.key:
  ca                the CA of all but one, to trust
  server            for listeners: localhost, outrigger, 127.0.0.1 and ::1
  server-other      one more, by SNI: other.example and *.other.example
  upstream          for a server behind Outrigger: localhost, upstream.example, 127.0.0.1 and ::1
  member            between members: outrigger
  client, client-twin   two clients whose certificates have the same serial number, 1
  client-encrypted.key  client's key once more, encrypted with client-encrypted.passphrase
and what has to be refused:
  client-stranger   named as client is, serial number 1 too, but signed by other-ca
  client-expired, server-expired   no longer valid
  server-wrong-san  for elsewhere.example only
  server, as a client's   its purpose is another
Try them: conf/mtls.yaml says how.
EOT
