package cas

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardseed/shardseed/internal/hint"
)

// UUID names a repository.
type UUID [16]byte

// String returns the usual form: 8-4-4-4-12 hex digits.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// parseUUID reads what String prints.
func parseUUID(s string) (UUID, error) {
	var u UUID
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(u) {
		return UUID{}, fmt.Errorf("uuid %q is not valid", s)
	}
	copy(u[:], raw)
	if u.String() != s {
		return UUID{}, fmt.Errorf("uuid %q is not written as %q", s, u)
	}
	return u, nil
}

// Config holds the parameters of a repository, chosen when it is created.
type Config struct {
	ChunkSize int // bytes: a power of two from 4 KiB to 16 MiB; 0 means DefaultChunkSize
}

// Limits of Config.ChunkSize, bytes.
const (
	MinChunkSize = 4 << 10
	MaxChunkSize = 16 << 20
)

func (c Config) validate() error {
	if c.ChunkSize < MinChunkSize || c.ChunkSize > MaxChunkSize || c.ChunkSize&(c.ChunkSize-1) != 0 {
		return fmt.Errorf("chunk size %d is not a power of two from %d to %d", c.ChunkSize, MinChunkSize, MaxChunkSize)
	}
	return nil
}

// Repository is an open repository. It holds no resources. Safe for concurrent
// use.
type Repository struct {
	backend  Backend
	uuid     UUID
	config   Config
	features uint64 // flags found that forbid writing to this program
	ignored  uint64 // flags found that it may ignore, but not when it deletes
	decoders *decoders

	randMu sync.Mutex
	rand   io.Reader // guarded by randMu
}

const (
	formatName     = "FORMAT"
	formatMagic    = "shardseed repository"
	maxFormat      = 4 << 10 // bytes
	configDir      = "config"
	configBodySize = 48 // bytes
)

// Create makes a repository in an empty backend, or in one where an earlier
// Create did not come to its end. The last step is FORMAT: of several creators
// one wins, the others get ErrExists.
func Create(ctx context.Context, backend Backend, config Config, random io.Reader, now func() time.Time) (*Repository, error) {
	if config.ChunkSize == 0 {
		config.ChunkSize = DefaultChunkSize
	}
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if err := checkEmpty(ctx, backend); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	r := &Repository{backend: backend, config: config, rand: random, decoders: newDecoders()}
	if err := r.random(r.uuid[:]); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if err := r.createConfig(ctx); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if err := put(ctx, backend, formatName, encodeFormat(r.uuid, now())); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	return r, nil
}

// checkEmpty refuses a backend that holds a repository, or anything that a
// Create cut short does not leave behind. What file systems put into their top
// folder does not count.
func checkEmpty(ctx context.Context, backend Backend) error {
	entries, err := backend.List(ctx, ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch entry.Name {
		case formatName:
			return fmt.Errorf("repository %w", ErrExists)
		case configDir, "tmp", "lost+found":
		default:
			return fmt.Errorf("not empty: holds %q", entry.Name)
		}
	}
	return nil
}

// createConfig writes the configuration under the next free generation. It
// carries the repository's uuid, so that one left by a Create that did not win
// is not taken for ours.
func (r *Repository) createConfig(ctx context.Context) error {
	_, err := r.putGeneration(ctx, configDir, objectConfig, encodeConfig(r.uuid, r.config))
	return err
}

// Open opens the repository; it only reads. It returns ErrNoRepository if
// there is none, a *VersionError if it is newer than this program, a
// *CorruptError if it is damaged.
func Open(ctx context.Context, backend Backend) (*Repository, error) {
	data, err := readBlob(ctx, backend, formatName, maxFormat)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("open repository: no file FORMAT: %w", ErrNoRepository)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	uuid, err := parseFormat(data)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", hintVersion(err))
	}
	r := &Repository{backend: backend, uuid: uuid, rand: rand.Reader, decoders: newDecoders()}
	if err := r.readConfig(ctx); err != nil {
		return nil, fmt.Errorf("open repository: %w", hintVersion(err))
	}
	return r, nil
}

// Confirm fails if the repository can't be reached any more, or another one has
// taken its place since it was opened. What was found to be missing or unreadable
// says nothing then.
func (r *Repository) Confirm(ctx context.Context) error {
	data, err := readBlob(ctx, r.backend, formatName, maxFormat)
	if err != nil {
		return fmt.Errorf("look whether the repository is still there: %w", err)
	}
	uuid, err := parseFormat(data)
	if err == nil && uuid != r.uuid {
		err = fmt.Errorf("its uuid is %s, it was %s", uuid, r.uuid)
	}
	if err != nil {
		return fmt.Errorf("look whether the repository is still the same: %w", err)
	}
	return nil
}

// hintVersion adds what to do about an object from the future.
func hintVersion(err error) error {
	var tooNew *VersionError
	if errors.As(err, &tooNew) {
		return hint.Wrap(err, "install a newer shardseed")
	}
	return err
}

// UUID returns the repository's name.
func (r *Repository) UUID() UUID { return r.uuid }

// ChunkSize returns the size of chunks that new backups use, bytes.
func (r *Repository) ChunkSize() int { return r.config.ChunkSize }

func encodeFormat(uuid UUID, created time.Time) []byte {
	return fmt.Appendf(nil, "%s\nversion %d\nuuid %s\ncreated %s\n", formatMagic, version, uuid, created.UTC().Format(time.RFC3339))
}

// parseFormat reads FORMAT. Lines after the third are for people.
func parseFormat(data []byte) (UUID, error) {
	corrupt := func(format string, args ...any) error {
		return &CorruptError{Name: formatName, Reason: fmt.Sprintf(format, args...)}
	}
	lines := bytes.SplitN(data, []byte("\n"), 4)
	if string(lines[0]) != formatMagic {
		return UUID{}, corrupt("first line is not %q", formatMagic)
	}
	if len(lines) < 4 {
		return UUID{}, corrupt("cut short after %d bytes", len(data))
	}
	number, ok := strings.CutPrefix(string(lines[1]), "version ")
	found, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil {
		return UUID{}, corrupt("second line is %q, want the version", lines[1])
	}
	if found != version {
		return UUID{}, versionError("format", uint16(found))
	}
	text, ok := strings.CutPrefix(string(lines[2]), "uuid ")
	uuid, err := parseUUID(text)
	if !ok || err != nil {
		return UUID{}, corrupt("third line is %q, want the uuid", lines[2])
	}
	return uuid, nil
}

// readConfig takes the highest generation that carries the repository's uuid.
func (r *Repository) readConfig(ctx context.Context) error {
	gens, err := r.generations(ctx, configDir)
	if err != nil {
		return err
	}
	for i := len(gens) - 1; i >= 0; i-- {
		name := generationName(configDir, gens[i])
		o, err := readObject(ctx, r.backend, name, objectConfig)
		if err != nil {
			return err
		}
		uuid, err := r.parseConfig(name, o.payload)
		if err != nil {
			return err
		}
		if uuid == r.uuid {
			return nil
		}
	}
	return &CorruptError{Name: configDir, Reason: "no configuration of this repository is left"}
}

func encodeConfig(uuid UUID, config Config) []byte {
	buf := append(make([]byte, 0, configBodySize), uuid[:]...)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(config.ChunkSize))
	return append(buf, make([]byte, configBodySize-len(buf))...) // reserved, and no feature is in use
}

// parseConfig sets the parameters if the configuration is this repository's.
// Bytes behind those it knows belong to features that readers may ignore.
func (r *Repository) parseConfig(name string, body []byte) (UUID, error) {
	if len(body) < configBodySize {
		return UUID{}, &CorruptError{Name: name, Reason: fmt.Sprintf("configuration of %d bytes, want %d", len(body), configBodySize)}
	}
	uuid := UUID(body[:16])
	if uuid != r.uuid {
		return uuid, nil
	}
	if flags := binary.LittleEndian.Uint64(body[24:]); flags != 0 {
		return uuid, &VersionError{What: "repository", Features: flags}
	}
	if reserved := binary.LittleEndian.Uint32(body[20:]); reserved != 0 {
		return uuid, &CorruptError{Name: name, Reason: fmt.Sprintf("reserved field is %#x", reserved)}
	}
	config := Config{ChunkSize: int(binary.LittleEndian.Uint32(body[16:]))}
	if err := config.validate(); err != nil {
		return uuid, &CorruptError{Name: name, Reason: err.Error()}
	}
	r.config, r.features, r.ignored = config, binary.LittleEndian.Uint64(body[32:]), binary.LittleEndian.Uint64(body[40:])
	return uuid, nil
}

// writable refuses to write where an unknown feature forbids it.
func (r *Repository) writable() error {
	if r.features != 0 {
		return hintVersion(&VersionError{What: "writing to the repository", Features: r.features})
	}
	return nil
}

// random fills buf with random bytes.
func (r *Repository) random(buf []byte) error {
	r.randMu.Lock()
	defer r.randMu.Unlock()
	if _, err := io.ReadFull(r.rand, buf); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	return nil
}

// newObject returns the bytes of a new object with a nonce of its own.
func (r *Repository) newObject(kind objectKind, payload []byte) (object, error) {
	if len(payload) > maxPayload {
		return object{}, fmt.Errorf("%d bytes are too many, at most %d fit", len(payload), maxPayload)
	}
	o := object{kind: kind, payload: payload}
	return o, r.random(o.nonce[:])
}

// putObject creates an object of that kind.
func (r *Repository) putObject(ctx context.Context, name string, kind objectKind, payload []byte) error {
	o, err := r.newObject(kind, payload)
	if err != nil {
		return err
	}
	return put(ctx, r.backend, name, o.encode())
}
