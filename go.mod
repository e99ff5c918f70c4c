module github.com/yairfalse/tapio

go 1.26.0
