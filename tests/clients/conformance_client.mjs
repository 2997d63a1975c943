// A client on TypeScript SDK 2.x for the official conformance suite's client scenarios: it does whatever the scenario named
// in the environment asks of a client. Its argument is the server's URL; with VIA_PORT its connections to that URL's port go to
// the named port of this machine instead, as if the public name led there.
import net from 'node:net'

import { auth, Client, extractWWWAuthenticateParams, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

const CALLBACK = 'http://localhost:3000/callback'
const scenario = process.env.MCP_CONFORMANCE_SCENARIO
const revision = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}')
const url = new URL(process.argv[2])

/** A user who agrees to everything; what it was given is kept by issuer, as SEP-2352 asks. */
class Provider {
  clientMetadataUrl = 'https://conformance-test.local/client-metadata.json'
  redirectUrl = CALLBACK
  clientMetadata = { client_name: 'outrigger-tests', redirect_uris: [CALLBACK], application_type: 'native' }
  callback = null
  #clients = new Map()
  #tokens = new Map()
  #verifier = null

  constructor({ client_id, client_secret }) {
    if (client_id) this.registered = { client_id, client_secret, redirect_uris: [CALLBACK] }
  }
  clientInformation = ctx => this.registered ?? this.#clients.get(ctx?.issuer)
  saveClientInformation = (client, ctx) => void this.#clients.set(ctx?.issuer, client)
  tokens = ctx => (ctx?.issuer ? this.#tokens.get(ctx.issuer) : [...this.#tokens.values()].at(-1))
  saveTokens = (tokens, ctx) => {
    this.#tokens.delete(ctx?.issuer)
    this.#tokens.set(ctx?.issuer, tokens)
  }
  saveCodeVerifier = verifier => void (this.#verifier = verifier)
  codeVerifier = () => this.#verifier
  redirectToAuthorization = async authorization => {
    const answer = await fetch(authorization, { redirect: 'manual' })
    this.callback = new URL(answer.headers.get('location')).searchParams
  }
}

/** `fetch` that asks for a token where it is told to, once per request. */
function authorised(provider) {
  const send = (input, init) => {
    const headers = new Headers(init?.headers)
    const token = provider.tokens()?.access_token
    if (token) headers.set('authorization', `Bearer ${token}`)
    return fetch(input, { ...init, headers })
  }
  return async (input, init) => {
    const first = await send(input, init)
    if (first.status !== 401 && first.status !== 403) return first
    const { resourceMetadataUrl, scope: asked } = extractWWWAuthenticateParams(first)
    // SEP-2350: what was granted before is asked for again with what is needed now.
    const scopes = new Set(`${provider.tokens()?.scope ?? ''} ${asked ?? ''}`.split(' ').filter(Boolean))
    const what = { serverUrl: url, resourceMetadataUrl, scope: [...scopes].join(' ') || undefined }
    if ((await auth(provider, what)) === 'REDIRECT') {
      const [authorizationCode, iss] = [provider.callback.get('code'), provider.callback.get('iss') ?? undefined]
      await auth(provider, { ...what, authorizationCode, iss })
    }
    const second = await send(input, init)
    if (second.status === 401 || second.status === 403) throw new Error(`not authorised: ${second.status}`)
    return second
  }
}

/** The smallest arguments that a tool's schema takes. */
function argumentsOf(tool) {
  const some = { string: 'text', number: 2, integer: 2, boolean: true, array: [], object: {}, null: null }
  const { properties = {}, required = [] } = tool.inputSchema ?? {}
  return Object.fromEntries(required.map(name => [name, properties[name]?.default ?? some[[properties[name]?.type].flat()[0]] ?? 'text']))
}

async function main() {
  const capabilities = { elicitation: { form: { applyDefaults: true }, applyDefaults: true }, sampling: {}, roots: {} }
  const mode = revision >= '2026-07-28' ? { pin: revision } : 'legacy'
  const client = new Client({ name: 'outrigger-tests', version: '1' }, { capabilities, versionNegotiation: { mode } })
  client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: {} }))
  const options = scenario.startsWith('auth/') ? { fetch: authorised(new Provider(context)) } : {}
  await client.connect(new StreamableHTTPClientTransport(url, options))
  const { tools } = await client.listTools()
  const calls = context.toolCalls ?? tools.map(tool => ({ name: tool.name, arguments: argumentsOf(tool) }))
  if (scenario !== 'json-schema-ref-no-deref') {
    for (const call of calls) await client.callTool(call).catch(error => console.error(call.name, error))
  }
  await client.close()
}

const via = Number(process.env.VIA_PORT ?? 0)
if (via) {
  const connect = net.connect
  net.connect = (to, ...rest) => connect(`${to.port}` === url.port ? { ...to, host: '127.0.0.1', port: via } : to, ...rest)
}
main().then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  },
)
