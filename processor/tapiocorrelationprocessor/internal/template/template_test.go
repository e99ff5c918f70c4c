package template

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

func TestRead(t *testing.T) {
	for body, want := range map[string]struct {
		words     string
		level     uint8
		exception string
	}{
		"16:57:08.384 INFO  t.c.Trips#122 TraceID: 7bd198b614b113ceff9a95ca9dad7237 SpanID: 503637d779108bf6 [query][Found 17 trips]": {
			words: "t.c.Trips#* query Found <*> trips", level: 9,
		},
		"2026-11-23T12:00:00Z WARN pool exhausted, 20 of 20 in use":              {words: "pool exhausted <*> of <*> in use", level: 13},
		"user 3f8a2b1c-0d4e-4f5a-9b6c-7d8e9f0a1b2c logged in from 10.1.2.3:4711": {words: "user <*> logged in from <*>"},
		"order=77 saved order status=done customer name=Ann": {
			words: "order <*> saved order status done customer name <*>",
		},
		"checked the stations: [Ulm, Bonn, Kiel] in order": {words: "checked the stations <*> in order"},
		`{"level":"error","msg":"payment refused","order":4711}`: {
			words: "level msg payment refused order <*>", level: 17,
		},
		"java.lang.IllegalStateException: No instances for basic": {
			words: "java.lang.IllegalStateException No instances for basic", exception: "java.lang.IllegalStateException",
		},
		"request failed after 3 tries KeyError 'abc'": {words: "request failed after <*> tries KeyError abc", exception: "KeyError"},
		"An Error occurred":                           {words: "An occurred", level: 17},
		"[ERROR] 17":                                  {level: 17},
		"":                                            {},
		"   ":                                         {},
		"node ip-10-0-0-1 gone":                       {words: "node ip-*-*-*-* gone"},
	} {
		var l line
		l.read(body)
		assert.Equal(t, want.words, strings.Join(l.words[:l.n], " "), body)
		assert.Equal(t, want.level, l.level, body)
		assert.Equal(t, want.exception, l.exception, body)
	}
}

func TestSameStatement(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		same  bool
	}{
		"values":              {[]string{"saved order 17 in 3 ms", "saved order 18 in 250 ms"}, true},
		"names as values":     {[]string{"sent the mail for the new order to the customer Ann today", "sent the mail for the new order to the customer Bob today"}, true},
		"a list of any size":  {[]string{"read the routes of all the stations Ulm Bonn done", "read the routes of all the stations Ulm Bonn Kiel done"}, true},
		"different ends":      {[]string{"checkout begins now", "checkout ends at last"}, false},
		"different beginning": {[]string{"cache miss for key 1", "lock miss for key 1"}, false},
		"a subset":            {[]string{"connection closed", "connection closed by the peer after too many errors in a row"}, false},
		"nothing":             {[]string{"", "17"}, true},
	} {
		m := New(100)
		a, b := m.Mine(tc.lines[0]).ID, m.Mine(tc.lines[1]).ID
		assert.Equal(t, tc.same, a == b, name)
		assert.NotZero(t, a)
		assert.Equal(t, a, m.Mine(tc.lines[0]).ID, "%s: and it stays so", name)
	}
}

func TestVariants(t *testing.T) {
	m := New(100)
	saved, failed := m.Mine("reading the list of prices of route 7 was a success"), m.Mine("reading the list of prices of route 9 was a failure")
	assert.Equal(t, saved.ID, failed.ID, "one statement")
	assert.NotEqual(t, saved.Variant, failed.Variant, "that says two things")
	assert.Equal(t, "reading the list of prices of route <*> was a <*>", m.Text(saved.ID))
	assert.Equal(t, "reading the list of prices of route <*> was a failure", m.Text(failed.Variant))
	for i := range 100 {
		m.Mine(fmt.Sprintf("reading the list of prices of route 1 was a %c%c", 'a'+i/26, 'a'+i%26))
	}
	assert.Zero(t, m.Mine("reading the list of prices of route 1 was a surprise").Variant, "these are values")
	assert.Equal(t, saved, m.Mine("reading the list of prices of route 5 was a success"), "the first ones stay")
	assert.Equal(t, 1, m.Len())
}

func TestException(t *testing.T) {
	m := New(100)
	e := m.Mine("cannot book com.shop.OutOfStockException: none left")
	require.NotZero(t, e.Exception)
	assert.Equal(t, "com.shop.OutOfStockException", m.Text(e.Exception))
	assert.Equal(t, e.Exception, m.Name("com.shop.OutOfStockException"))
	assert.Zero(t, m.Mine("no Error here, and no /path/to/MyException").Exception)
}

func TestBound(t *testing.T) {
	m := New(50)
	kept := m.Mine("the one that is always used").ID
	for i := range 5000 {
		w := strings.Repeat(string(rune('a'+i%26)), 1+i/26%40)
		m.Mine(fmt.Sprintf("%s unique %s statement %s", w, w, w))
		require.Equal(t, kept, m.Mine("the one that is always used").ID)
		require.LessOrEqual(t, m.Len(), 50)
	}
	assert.NotZero(t, m.Evicted())
	assert.LessOrEqual(t, len(m.order), 50)
	assert.LessOrEqual(t, len(m.leaves), 50)
	assert.LessOrEqual(t, len(m.exact), 50*maxHashes)
	assert.LessOrEqual(t, len(m.texts), 50*maxVariants)
	assert.LessOrEqual(t, len(m.first), 50)
	for i := range 100 {
		assert.Equal(t, i >= 50, m.Name(letters(i)) == 0)
	}
	assert.Empty(t, m.Text(999_999))
}

func TestManyFirstWords(t *testing.T) {
	m := New(100_000)
	for i := range 5000 {
		m.Mine(fmt.Sprintf("%s logged in with the password", letters(i)))
		m.Mine(fmt.Sprintf("user %s logged in with the password", letters(i)))
	}
	assert.Less(t, m.Len(), maxFirst+maxSecond+2*maxLeaf, "a first or second word that varies so much is a value")
}

func letters(i int) string {
	var b []byte
	for n := i + 26; n > 0; n /= 26 {
		b = append(b, byte('a'+n%26))
	}
	return string(b)
}

func TestConcurrentUse(t *testing.T) {
	m := New(20)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				m.Text(m.Mine(letters(g*100+i%50) + " did something").ID)
				m.Len()
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, m.Len(), 20)
}

func FuzzMine(f *testing.F) {
	for _, s := range []string{"", "a=b: [1,2", "ERROR x{{{", "\xff\xfe 1", "stations: [a [b] c", "k: { \"x\":1", strings.Repeat("word ", 400)} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		m := New(3)
		first := m.Mine(a)
		if again := m.Mine(a); again != first {
			t.Fatalf("%+v, then %+v", first, again)
		}
		m.Mine(b)
		for _, s := range []string{a + b, b + a, a + " " + b} {
			x := m.Mine(s)
			if x.ID == 0 || !utf8.ValidString(m.Text(x.ID)) || !utf8.ValidString(m.Text(x.Variant)) {
				t.Fatalf("%+v %q", x, m.Text(x.ID))
			}
		}
		if m.Len() > 3 {
			t.Fatal(m.Len())
		}
	})
}

func BenchmarkMine(b *testing.B) {
	m := New(1000)
	lines := make([]string, 64)
	for i := range lines {
		lines[i] = fmt.Sprintf("16:57:%02d.384 INFO  t.c.Trips#122 TraceID: 7bd198b614b113ceff9a95ca9dad7237 SpanID: 503637d77910%04d [query][Seat request][request: Seat(travelDate=2023-01-29, trainNumber=G%d)]", i, 1000+i, i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Mine(lines[i%len(lines)])
	}
}

func TestLevel(t *testing.T) {
	for line, want := range map[string]plog.SeverityNumber{
		"FATAL: cannot read /etc/ledger/tls.key": plog.SeverityNumberFatal,
		`time="2026-11-27" level=error msg=x`:    plog.SeverityNumberError,
		"2026-11-27 12:00:00 [main] WARN x":      plog.SeverityNumberWarn,
		"panic: no key":                          plog.SeverityNumberFatal,
		"SIGABRT: abort":                         plog.SeverityNumberError,
		"java.lang.IllegalStateException: x":     plog.SeverityNumberError,
		"order 7 was accepted":                   0,
		"SIGNATURE checked":                      0,
		"":                                       0,
		"one two three four error":               0,
	} {
		assert.EqualValues(t, want, Level(line), line)
	}
}
